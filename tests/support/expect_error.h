// Expectations on xlstm::Error: every failure is one line with a documented exit code.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "xlstm/core/errors.h"

namespace xlstm::test {

// Runs `action` and expects an Error with this exit code and a one-line message that contains every part.
template <class Action>
void expect_error(Action&& action, ExitCode code, const std::vector<std::string>& parts) {
  try {
    action();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const std::string& part : parts) EXPECT_THAT(message, testing::HasSubstr(part));
    return;
  }
  ADD_FAILURE() << "expected an Error with exit code " << static_cast<int>(code) << ", got none";
}

}  // namespace xlstm::test
