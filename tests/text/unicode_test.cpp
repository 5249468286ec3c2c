#include "src/text/unicode.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "src/text/byte_alphabet.h"
#include "xlstm/text/utf8.h"

namespace xlstm {
namespace {

struct Forms {
  std::string text;
  std::string nfc;
  std::string nfd;
  std::string nfkc;
  std::string nfkd;
};

TEST(Unicode, GivesTheFourNormalForms) {
  const std::vector<Forms> cases = {
      {"", "", "", "", ""},
      {"plain", "plain", "plain", "plain", "plain"},
      {"e\u0301", "\u00e9", "e\u0301", "\u00e9", "e\u0301"},
      {"\u00e9", "\u00e9", "e\u0301", "\u00e9", "e\u0301"},
      {"\u212b", "\u00c5", "A\u030a", "\u00c5", "A\u030a"},
      {"\ufb01", "\ufb01", "\ufb01", "fi", "fi"},
      {"\u00bd", "\u00bd", "\u00bd", "1\u20442", "1\u20442"},
      {"\u1100\u1161\u11a8", "\uac01", "\u1100\u1161\u11a8", "\uac01", "\u1100\u1161\u11a8"},
      {"\uac01", "\uac01", "\u1100\u1161\u11a8", "\uac01", "\u1100\u1161\u11a8"},
      {"a\u0301\u0316", "\u00e1\u0316", "a\u0316\u0301", "\u00e1\u0316", "a\u0316\u0301"},  // marks put in order
      {"\u0958", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c"},           // not composed again
      {"\ufdfa", "\ufdfa", "\ufdfa",
       "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647 \u0639\u0644\u064a\u0647 \u0648\u0633\u0644\u0645",
       "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647 \u0639\u0644\u064a\u0647 \u0648\u0633\u0644\u0645"},
  };
  for (const Forms& c : cases) {
    SCOPED_TRACE(c.text);
    EXPECT_EQ(normalize(c.text, NormalForm::kNfc), c.nfc);
    EXPECT_EQ(normalize(c.text, NormalForm::kNfd), c.nfd);
    EXPECT_EQ(normalize(c.text, NormalForm::kNfkc), c.nfkc);
    EXPECT_EQ(normalize(c.text, NormalForm::kNfkd), c.nfkd);
  }
}

TEST(Unicode, OrdersAMillionMarksWithoutQuadraticTime) {
  std::string text = "a";
  constexpr int kPairs = 500'000;
  for (int i = 0; i < kPairs; ++i) text += "\u0301\u0316";
  const std::string normal = normalize(text, NormalForm::kNfd);
  EXPECT_EQ(normal.size(), text.size());
  EXPECT_EQ(normal.substr(0, 5), "a\u0316\u0316");
  EXPECT_EQ(normal.substr(normal.size() - 4), "\u0301\u0301");
}

TEST(Unicode, KnowsWhiteSpace) {
  for (const char32_t c : std::initializer_list<char32_t>{0x9, 0xA, 0xD, 0x20, 0x85, 0xA0, 0x1680, 0x2000, 0x200A,
                                                          0x2028, 0x202F, 0x205F, 0x3000}) {
    EXPECT_TRUE(is_white_space(c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : std::initializer_list<char32_t>{0x8, 0xE, 0x1C, 0x41, 0x180E, 0x200B, 0x2060, 0xFEFF}) {
    EXPECT_FALSE(is_white_space(c)) << static_cast<uint32_t>(c);
  }
}

TEST(Unicode, KnowsWordCharacters) {
  for (const char32_t c : std::initializer_list<char32_t>{0x30, 0x41, 0x5F, 0xE9, 0x301, 0x660, 0x2167, 0x203F, 0x24B6,
                                                          0x200D, 0x4E2D, 0x1F130}) {
    EXPECT_TRUE(is_word(c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c :
       std::initializer_list<char32_t>{0x0, 0x20, 0x2D, 0xB2, 0xBD, 0x200B, 0x20AC, 0x1F600, 0x10FFFF}) {
    EXPECT_FALSE(is_word(c)) << static_cast<uint32_t>(c);
  }
}

TEST(ByteAlphabet, MapsEveryByteToItsOwnSymbolAndBack) {
  std::string all;
  std::string symbols;
  for (int byte = 0; byte < 256; ++byte) {
    all += static_cast<char>(byte);
    symbols += byte_symbol(static_cast<uint8_t>(byte));
  }
  EXPECT_EQ(bytes_of_symbols(symbols), all);
  EXPECT_EQ(byte_symbol(' '), "\u0120");
  EXPECT_EQ(byte_symbol('\n'), "\u010a");
  EXPECT_EQ(byte_symbol('A'), "A");
  EXPECT_EQ(byte_symbol(0xAD), "\u0143");
}

TEST(ByteAlphabet, RefusesCodePointsThatAreNoSymbol) {
  for (const std::string text : {" ", "a b", "\u0144", "\u00ad", "\u4e2d", "\n"}) {
    EXPECT_EQ(bytes_of_symbols(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace xlstm
