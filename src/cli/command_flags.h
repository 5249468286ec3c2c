// The commands and the flags that are not configuration. Parsing and help both follow these two lists.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/cli/arguments.h"
#include "xlstm/config/runtime_opts.h"

namespace xlstm {

struct Command {
  std::string_view name;
  std::string_view usage;  // what follows the name
  std::string_view summary;
};

// "generate", which is what runs when no command is named, comes first.
[[nodiscard]] std::span<const Command> commands();

struct CommandFlag {
  std::string_view names;       // "-m,--model"; '_' for '-' is understood and not listed
  std::string_view value_name;  // empty: a switch
  std::string_view commands;    // names separated by blanks; "*": all
  std::string_view section;     // heading in help
  std::string_view help;
  // Stores the values given, in order; a switch gets "true" or "false". Error kUsage.
  void (*store)(Arguments& arguments, const std::vector<std::string>& values, const ValueSource& source);

  [[nodiscard]] bool applies_to(std::string_view command) const;
};

[[nodiscard]] std::span<const CommandFlag> command_flags();

// All names of a configuration flag for a command, short ones first: "-n", "--max-new-tokens". A short name that the
// command uses for something else is left out; if it has a flag of the long name itself, there are none.
[[nodiscard]] std::vector<std::string> option_flag_names(const Option& option, std::string_view command);

// "a,b" → {"a", "b"}.
[[nodiscard]] std::vector<std::string> split_commas(std::string_view text);

// What --help prints. `command` is one of commands().
[[nodiscard]] std::string help_text(std::string_view command);

}  // namespace xlstm
