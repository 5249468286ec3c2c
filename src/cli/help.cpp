// Help from the lists of commands, command flags and options, at most 100 columns wide.
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "src/cli/command_flags.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

constexpr size_t kWidth = 100;
constexpr size_t kHelpColumn = 34;

constexpr size_t kUnbrokenLimits = 36;
constexpr char kNoBreak = '\t';  // stands for a blank at which row() does not wrap

// "  left      text wrapped in its own column\n"
std::string row(const std::string& left, std::string_view text) {
  std::string out = cat("  ", left);
  size_t column = out.size();
  if (column + 2 > kHelpColumn) {
    out += '\n';
    column = 0;
  }
  out.append(kHelpColumn - column, ' ');
  column = kHelpColumn;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (column > kHelpColumn) {
      if (column + 1 + word.size() > kWidth) {
        out += '\n';
        out.append(kHelpColumn, ' ');
        column = kHelpColumn;
      } else {
        out += ' ';
        ++column;
      }
    }
    out += word;
    column += word.size();
  }
  std::replace(out.begin(), out.end(), kNoBreak, ' ');
  return out + '\n';
}

std::string heading(std::string_view title) {
  return cat('\n', title, ":\n");
}

// "[1 to 1024, default 64]"
std::string limits_text(const Option& option) {
  std::string values;
  if (const auto* kind = std::get_if<IntOption>(&option.kind)) {
    const bool stated = kind->max != INT64_MAX && option.value_name != "0|1" && option.value_name != "PORT";
    if (stated) values = cat(kind->min, " to ", kind->max, ", ");
  } else if (const auto* text = std::get_if<TextOption>(&option.kind); text != nullptr && !text->choices.empty()) {
    values = text->choices;
    std::replace(values.begin(), values.end(), '|', ' ');
    values += "; ";
  }
  const nlohmann::json value = get_option(RuntimeOpts(), option);
  if (value.is_boolean()) return value.get<bool>() ? "[default on]" : "[default off]";
  if (value.empty() || value == "") return {};
  const std::string shown = value.is_string()   ? value.get<std::string>()
                            : value.is_number() ? cat(value.get<double>())
                                                : value.dump();
  return cat('[', values, "default ", shown, ']');
}

std::string option_row(const Option& option, std::string_view command) {
  std::vector<std::string> names = option_flag_names(option, command);
  if (std::holds_alternative<SwitchOption>(option.kind)) names.back().insert(2, "[no-]");
  std::string left = join(names, ", ");
  if (!option.value_name.empty()) left += cat(' ', option.value_name);
  std::string limits = limits_text(option);
  if (limits.size() < kUnbrokenLimits) std::replace(limits.begin(), limits.end(), ' ', kNoBreak);
  return row(left, cat(option.help, ' ', limits));
}

std::string flag_row(const CommandFlag& flag) {
  std::string left = join(split_commas(flag.names), ", ");
  if (!flag.value_name.empty()) left += cat(' ', flag.value_name);
  return row(left, flag.help);
}

// The command's own flags, section by section.
std::string flag_sections(std::string_view command) {
  std::string out;
  std::string_view section;
  for (const CommandFlag& flag : command_flags()) {
    if (!flag.applies_to(command)) continue;
    if (flag.section != section) out += heading(flag.section);
    section = flag.section;
    out += flag_row(flag);
  }
  return out;
}

std::string generate_help() {
  std::string out =
      "Runs xLSTM language models.\n\n"
      "Usage: xlstm_generate [flags]            continue a prompt\n"
      "       xlstm_generate COMMAND [flags]\n";
  out += heading("Commands");
  for (const Command& command : commands().subspan(1)) out += row(std::string(command.name), command.summary);
  out += heading("Examples");
  out +=
      "  xlstm_generate -p \"Once upon a time\" -n 100 --seed 7\n"
      "  xlstm_generate -m models/my-model -f prompt.txt --temp 0\n"
      "  xlstm_generate --print-effective-config --profile golden_ray\n";
  out += flag_sections("generate");
  out +=
      "\nThe settings below are also keys of configuration files, with '_' for '-'. A switch x is given as\n"
      "--x, --no-x or --x=true|false.\n";
  for (const OptionGroup group :
       {OptionGroup::kGeneration, OptionGroup::kDevice, OptionGroup::kScheduling, OptionGroup::kRay,
        OptionGroup::kTuned, OptionGroup::kMemory, OptionGroup::kLogging}) {
    out += heading(group_title(group));
    for (const Option& option : runtime_options()) {
      if (option.group == group) out += option_row(option, "generate");
    }
  }
  return out;
}

}  // namespace

std::string help_text(std::string_view name) {
  if (name == commands().front().name) return generate_help();
  const std::span<const Command> all = commands();
  const auto command = std::find_if(all.begin(), all.end(), [&](const Command& c) { return c.name == name; });
  XLSTM_ASSERT(command != all.end());
  std::string out = cat(command->summary, ".\n\nUsage: xlstm_generate ", command->name, ' ', command->usage, '\n');
  out.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(out.front())));
  out += flag_sections(name);
  return out + "\nAll settings that `xlstm_generate --help` lists can be given too, by their long names.\n";
}

}  // namespace xlstm
