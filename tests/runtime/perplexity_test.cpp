#include "xlstm/runtime/perplexity.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/engines.h"

namespace xlstm {
namespace {

TEST(Perplexity, OfTheValidationDocumentsEqualsTheReference) {
  std::ifstream documents_file(test::goldens() / "tales/val_docs.json");
  std::ifstream golden_file(test::goldens() / "tales/golden.json");
  const auto documents = nlohmann::json::parse(documents_file);
  const auto golden = nlohmann::json::parse(golden_file)["perplexity"];
  Engine engine = test::load_engine(test::bundled_model());
  ASSERT_EQ(documents.size(), golden["per_doc"].size());
  double total = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    SCOPED_TRACE(i);
    std::vector<int64_t> ids = engine.tokenizer()->encode(documents[i].get<std::string>());
    ids.insert(ids.begin(), engine.bos_id());
    ids.resize(std::min<size_t>(ids.size(), 1025));
    const DocumentScore score = score_document(engine, ids);
    EXPECT_EQ(score.tokens, golden["per_doc"][i]["tokens"].get<int64_t>());
    const double expected = golden["per_doc"][i]["nll"];
    EXPECT_NEAR(score.nll, expected, 1e-5 * expected);
    total += score.nll;
  }
  const double expected = golden["nll"];
  EXPECT_NEAR(total, expected, 1e-5 * expected);
}

TEST(Perplexity, OfATextDoesNotDependOnTheSegmentLength) {
  RuntimeOpts opts = test::quiet_opts();
  Engine whole = test::load_engine(test::goldens() / "zoo/single_f32", opts);
  opts.prefill_segment = 64;
  Engine pieces = test::load_engine(test::goldens() / "zoo/single_f32", opts);
  std::vector<int64_t> ids(200);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i * 31 % 160);
  const double expected = score_document(whole, ids).nll;
  EXPECT_NEAR(score_document(pieces, ids).nll, expected, 1e-5 * expected);
}

TEST(Perplexity, OfFewerThanTwoIdsPredictsNothing) {
  Engine engine = test::load_engine(test::goldens() / "zoo/single_f32");
  EXPECT_EQ(score_document(engine, {}).tokens, 0);
  EXPECT_EQ(score_document(engine, {5}).tokens, 0);
  EXPECT_EQ(score_document(engine, {5, 6}).tokens, 1);
}

}  // namespace
}  // namespace xlstm
