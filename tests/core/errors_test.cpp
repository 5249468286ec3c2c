#include "xlstm/core/errors.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/expect_error.h"

namespace xlstm {
namespace {

using test::expect_error;

TEST(Errors, FailThrowsTheOneLineOfTheContractWithItsExitCode) {
  try {
    fail(ExitCode::kCheckpoint, "tensor lm_head.weight", "model.safetensors", "shape [8, 4]", "[4, 8]");
    FAIL() << "fail() returned";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kCheckpoint);
    EXPECT_STREQ(error.what(), "tensor lm_head.weight (model.safetensors): expected shape [8, 4], got [4, 8]");
  }
}

TEST(Errors, FormatErrorGivesTheTextThatFailThrows) {
  EXPECT_EQ(format_error("a", "b", "c", "d"), "a (b): expected c, got d");
}

TEST(Errors, ControlCharactersInAnyPartStayOnOneLine) {
  EXPECT_EQ(format_error("a\nb", "c\rd", "\x1b[31m", std::string_view("e\0f", 3)),
            "a\\nb (c\\rd): expected \\x1b[31m, got e\\x00f");
}

TEST(Errors, AHugePartIsCut) {
  const std::string message = format_error("a", "b", "c", std::string(1'000'000, 'x'));
  EXPECT_LT(message.size(), 3000u);
  EXPECT_TRUE(message.ends_with("…"));
}

TEST(Errors, ExitCodesAreTheDocumentedOnes) {
  EXPECT_EQ(static_cast<int>(ExitCode::kOk), 0);
  EXPECT_EQ(static_cast<int>(ExitCode::kInternal), 1);
  EXPECT_EQ(static_cast<int>(ExitCode::kUsage), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::kCheckpoint), 3);
  EXPECT_EQ(static_cast<int>(ExitCode::kDevice), 4);
  EXPECT_EQ(static_cast<int>(ExitCode::kMemory), 5);
  EXPECT_EQ(static_cast<int>(ExitCode::kOutput), 6);
  EXPECT_EQ(static_cast<int>(ExitCode::kMismatch), 7);
}

TEST(Errors, ABrokenAssertionIsAnInternalErrorThatNamesConditionAndPlace) {
  const int rows = 3;
  EXPECT_NO_THROW(XLSTM_ASSERT(rows == 3));
  expect_error([&] { XLSTM_ASSERT(rows == 4); }, ExitCode::kInternal,
               {"internal error (errors_test.cpp:", "rows == 4"});
}

TEST(Errors, AnAssertionEvaluatesItsConditionOnce) {
  int evaluations = 0;
  XLSTM_ASSERT(++evaluations > 0);
  EXPECT_EQ(evaluations, 1);
}

}  // namespace
}  // namespace xlstm
