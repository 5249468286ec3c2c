#include "kernels/cpu/isa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "xlstm/core/errors.h"

namespace xlstm::cpu {
namespace {

class IsaTest : public testing::Test {
 protected:
  ~IsaTest() override { force_isa(""); }
};

TEST_F(IsaTest, TheActiveSetIsTheBestSupportedOne) {
  ASSERT_FALSE(supported_isas().empty());
  EXPECT_EQ(active_isa(), supported_isas().front());
}

TEST_F(IsaTest, EverySupportedSetCanBeForcedAndGivenUpAgain) {
  const std::vector<std::string> all = supported_isas();
  for (const std::string& isa : all) {
    SCOPED_TRACE(isa);
    force_isa(isa);
    EXPECT_EQ(active_isa(), isa);
    force_isa("");
    EXPECT_EQ(supported_isas(), all);
  }
}

TEST_F(IsaTest, AnUnknownSetIsRefused) {
  EXPECT_THROW(force_isa("MMX"), Error);
}

}  // namespace
}  // namespace xlstm::cpu
