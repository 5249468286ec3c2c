// The error policy in code: exceptions of type Error for what a user or the environment did wrong, each with its
// documented exit code; assertions (XLSTM_ASSERT) for our own bugs.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace xlstm {

// Process exit codes; part of the command-line contract.
enum class ExitCode : int {
  kOk = 0,
  kInternal = 1,    // a bug of ours
  kUsage = 2,       // command line, configuration or prompt input
  kCheckpoint = 3,  // checkpoint, tokenizer or state file
  kDevice = 4,      // device or kernel not available
  kMemory = 5,      // memory guard, refused estimate, device out of memory
  kOutput = 6,      // output could not be written
  kMismatch = 7,    // selftest or parity mismatch
};

// A failure to report to the user as one line. what() is that line without the leading "error: ".
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

// Throws Error with the text "WHAT (WHERE): expected EXPECTED, got GOT".
// WHAT is the thing that is wrong (an option, a tensor), WHERE the file or layer it came from. Whatever the parts hold,
// the text is one line without control characters.
[[noreturn]] void fail(ExitCode code, std::string_view what, std::string_view where, std::string_view expected,
                       std::string_view got);

// The message text that fail() throws, for callers that collect several problems before reporting.
[[nodiscard]] std::string format_error(std::string_view what, std::string_view where, std::string_view expected,
                                       std::string_view got);

// Reports a broken invariant of our own as an Error with ExitCode::kInternal.
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace xlstm

#define XLSTM_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::xlstm::assertion_failed(#condition, __FILE__, __LINE__))
