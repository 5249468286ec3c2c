#include "src/cli/arguments.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>
#include <utility>

#include "src/cli/command_flags.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/core/version.h"

namespace xlstm {
namespace {

constexpr const char* kCommandLine = "command line";

std::string in_quotes(std::string_view text) {
  return cat('"', printable(text), '"');
}

[[noreturn]] void refuse(std::string_view what, std::string_view expected, std::string_view got) {
  fail(ExitCode::kUsage, what, kCommandLine, expected, got);
}

// A flag as declared to CLI11 and what its values are for.
struct Binding {
  CLI::Option* parsed;
  const Option* option;     // either a configuration option
  const CommandFlag* flag;  // or a flag of the command
};

// One command's flags. CLI11 matches names and subcommands and keeps every value given (Option::results() ignores the
// policy, which only keeps CLI11 from refusing repetitions); the values stay texts until store().
struct ParsedCommand {
  std::string_view name;
  CLI::App* app;
  std::vector<Binding> bindings;
};

CLI::Option* add_value_flag(CLI::App& app, const std::vector<std::string>& names) {
  return app.add_option(join(names, ","))->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

CLI::Option* add_switch(CLI::App& app, const std::vector<std::string>& names) {
  const std::string opposite = cat("--no-", names.back().substr(2), "{false}");
  return app.add_flag(cat(join(names, ","), ',', opposite))->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

// "--chunk_size" → "--chunk-size".
std::string with_hyphens(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

ParsedCommand declare(std::string_view name, CLI::App& app) {
  app.set_help_flag("");
  app.allow_extras();
  ParsedCommand command{name, &app, {}};
  for (const CommandFlag& flag : command_flags()) {
    if (!flag.applies_to(name)) continue;
    const std::vector<std::string> names = split_commas(flag.names);
    CLI::Option* parsed = flag.value_name.empty() ? add_switch(app, names) : add_value_flag(app, names);
    command.bindings.push_back({parsed, nullptr, &flag});
  }
  for (const Option& option : runtime_options()) {
    const std::vector<std::string> names = option_flag_names(option, name);
    if (names.empty()) continue;
    const bool is_switch = std::holds_alternative<SwitchOption>(option.kind);
    command.bindings.push_back({is_switch ? add_switch(app, names) : add_value_flag(app, names), &option, nullptr});
  }
  return command;
}

// Spells flags as they are declared and writes every value as an argument of its own. CLI11 agrees with getopt about
// separate values, but reads -p=x as the value "=x" and takes the next argument as the value of an empty --prompt=.
class Normalizer {
 public:
  explicit Normalizer(CLI::App& app) : app_(&app) {}

  std::vector<std::string> normalize(std::vector<std::string> arguments) {
    for (size_t i = 0; i < arguments.size(); ++i) {
      std::string& argument = arguments[i];
      if (argument == "--") {
        out_.insert(out_.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.end());
        break;
      }
      const bool wants_value = argument.starts_with("--")                         ? split_long(argument)
                               : argument.size() > 1 && argument.starts_with('-') ? split_short(argument)
                                                                                  : enter(argument);
      if (!wants_value) continue;
      const std::string flag = out_.back();
      if (i + 1 == arguments.size()) refuse(flag, "a value", "the end of the command line");
      const std::string& value = arguments[++i];
      if (value.starts_with("--") && find(with_hyphens(value.substr(0, value.find('=')))) != nullptr) {
        refuse(flag, "a value",
               cat("the flag ", printable(value), " (write ", flag, "=", printable(value), " to mean the text)"));
      }
      out_.push_back(value);
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] CLI::Option* find(const std::string& name) const { return app_->get_option_no_throw(name); }
  static bool takes_value(const CLI::Option& option) { return option.get_expected_max() > 0; }

  // These pass an argument on and say whether its value is still to come.
  bool split_long(const std::string& argument) {
    const size_t equals = argument.find('=');
    const std::string name = with_hyphens(argument.substr(0, equals));
    const CLI::Option* option = find(name);
    if (option == nullptr) {
      out_.push_back(argument);
      return false;
    }
    if (!takes_value(*option)) {
      if (equals + 1 == argument.size()) refuse(name, "true or false", "\"\"");
      out_.push_back(equals == std::string::npos ? name : name + argument.substr(equals));
      return false;
    }
    out_.push_back(name);
    if (equals == std::string::npos) return true;
    out_.push_back(argument.substr(equals + 1));
    return false;
  }

  // -n5, -n=5, and switches in one word: -ev, -en5.
  bool split_short(std::string_view argument) {
    for (std::string_view rest = argument.substr(1); !rest.empty();) {
      const std::string name = cat('-', rest.front());
      rest.remove_prefix(1);
      const CLI::Option* option = find(name);
      if (option == nullptr) {
        out_.push_back(cat(name, rest));
        return false;
      }
      out_.push_back(name);
      if (takes_value(*option)) {
        if (rest.empty()) return true;
        out_.emplace_back(rest.substr(rest.front() == '=' ? 1 : 0));
        return false;
      }
      if (rest.starts_with('=')) refuse(name, "no value", in_quotes(rest.substr(1)));
    }
    return false;
  }

  bool enter(const std::string& argument) {
    if (app_->get_parent() == nullptr) {
      for (CLI::App* command : app_->get_subcommands([](CLI::App*) { return true; })) {
        if (command->get_name() == argument) app_ = command;
      }
    }
    out_.push_back(argument);
    return false;
  }

  CLI::App* app_;  // the command that the next flag belongs to
  std::vector<std::string> out_;
};

// The first command that has a flag of this name, or "".
std::string_view owner(std::string_view name) {
  for (const CommandFlag& flag : command_flags()) {
    const std::vector<std::string> names = split_commas(flag.names);
    if (std::find(names.begin(), names.end(), name) == names.end()) continue;
    return flag.commands.substr(0, flag.commands.find(' '));
  }
  return {};
}

[[noreturn]] void refuse_flag(const std::string& argument, const ParsedCommand& command, const std::string& program) {
  const std::string got = in_quotes(argument.substr(0, argument.find('=')));
  const std::string name = with_hyphens(argument.substr(0, argument.find('=')));
  if (const std::string_view other = owner(name); !other.empty()) {
    refuse("flag", cat("a flag of ", program, " (", name, " belongs to ", other, ')'), got);
  }
  std::vector<std::string> known;
  for (const CLI::Option* option : command.app->get_options()) {
    for (const std::string& flag : option->get_lnames()) known.push_back("--" + flag);
  }
  const std::string near = nearest(name, known);
  refuse("flag",
         near.empty() ? cat("one that `", program, " --help` lists") : cat("a known one, did you mean ", near, '?'),
         got);
}

// What to say about an argument that no flag or command took.
[[noreturn]] void refuse_extra(const std::string& extra, const ParsedCommand& command) {
  const bool is_main = command.app->get_parent() == nullptr;
  const std::string program = is_main ? "xlstm_generate" : cat("xlstm_generate ", command.name);
  if (extra.size() > 1 && extra.starts_with('-')) refuse_flag(extra, command, program);
  if (!is_main) refuse("argument", cat("no further argument after `", program, '`'), in_quotes(extra));
  std::vector<std::string> names;
  for (const Command& known : commands().subspan(1)) names.emplace_back(known.name);
  const std::string near = nearest(extra, names);
  if (!near.empty()) refuse("command", cat("a known one, did you mean ", near, '?'), in_quotes(extra));
  refuse("argument", cat("a flag or one of ", join(names, ", "), " (did you forget -p before a prompt?)"),
         in_quotes(extra));
}

// The name that messages use for a flag: the first long one of a command flag, the key's own of an option.
std::string flag_name(const Binding& binding, std::string_view command) {
  if (binding.option != nullptr) return option_flag_names(*binding.option, command).back();
  const std::vector<std::string> names = split_commas(binding.flag->names);
  return *std::find_if(names.begin(), names.end(), [](const std::string& name) { return name.starts_with("--"); });
}

// Stores the values given to all of `given`: the flags before the command's name and those after it.
void store(const std::vector<const ParsedCommand*>& given, const ParsedCommand& command, Arguments& arguments) {
  struct Given {
    const Binding* binding;
    std::vector<std::string> values;
    std::string name;
  };
  std::vector<Given> all;
  for (const ParsedCommand* part : given) {
    for (const Binding& binding : part->bindings) {
      if (binding.parsed->count() == 0) continue;
      const std::string name = flag_name(binding, part->name);
      if (binding.flag != nullptr && !binding.flag->applies_to(command.name)) {
        refuse(name, cat("a flag that `xlstm_generate ", command.name, "` has"), "one that it lacks");
      }
      const auto same = std::find_if(all.begin(), all.end(), [&](const Given& other) {
        return other.binding->option == binding.option && other.binding->flag == binding.flag;
      });
      const std::vector<std::string>& values = binding.parsed->results();
      if (same == all.end()) {
        all.push_back({&binding, values, name});
      } else {
        same->values.insert(same->values.end(), values.begin(), values.end());
      }
    }
  }
  arguments.layers.flags = nlohmann::json::object();
  for (const Given& one : all) {
    if (one.binding->option == nullptr) continue;
    arguments.layers.flags[std::string(one.binding->option->key)] =
        option_from_text(*one.binding->option, one.values, {one.name, kCommandLine});
  }
  for (const Given& one : all) {
    if (one.binding->flag != nullptr) one.binding->flag->store(arguments, one.values, {one.name, kCommandLine});
  }
}

void check_together(const Arguments& arguments) {
  if (arguments.prompt.has_value() + arguments.prompt_file.has_value() + arguments.prompt_ids.has_value() > 1) {
    refuse("prompt", arguments.command == "generate" ? "one of -p, -f and --prompt-ids" : "one of -p and -f",
           "several");
  }
  if (arguments.model && !arguments.bench.shape.empty()) {
    refuse("model", "one of -m and --shape", "both");
  }
  if (arguments.command == "monitor" && arguments.monitor.once + arguments.monitor.json_stream > 1) {
    refuse("output", "one of --once and --json-stream", "both");
  }
  if (arguments.command == "quantize" && arguments.quantize.output.empty()) {
    refuse("-o", "a directory to write", "none");
  }
  if (arguments.command == "perplexity" && arguments.perplexity.file.empty()) refuse("-f", "a file to score", "none");
}

bool is_on(const ParsedCommand& command, const char* name) {
  const CLI::Option* option = command.app->get_option_no_throw(name);
  XLSTM_ASSERT(option != nullptr);
  return option->count() > 0 && option->results().back() != "false";
}

}  // namespace

Arguments parse_arguments(int argc, const char* const* argv) {
  CLI::App app;
  const ParsedCommand main = declare(commands().front().name, app);
  app.require_subcommand(0, 1);
  std::vector<ParsedCommand> subcommands;
  CLI::Option* directory = nullptr;
  for (const Command& command : commands().subspan(1)) {
    CLI::App* sub = app.add_subcommand(std::string(command.name));
    subcommands.push_back(declare(command.name, *sub));
    if (command.name == "check") directory = sub->add_option("DIR")->expected(1);
  }

  std::vector<std::string> values(argv + std::min(argc, 1), argv + argc);
  values = Normalizer(app).normalize(std::move(values));
  std::reverse(values.begin(), values.end());  // the order in which App::parse() takes them
  try {
    app.parse(std::move(values));
  } catch (const CLI::ParseError& error) {
    refuse("arguments", "valid flags", printable(error.what(), 160));
  }

  const auto chosen = std::find_if(subcommands.begin(), subcommands.end(),
                                   [](const ParsedCommand& command) { return command.app->parsed(); });
  const ParsedCommand& command = chosen == subcommands.end() ? main : *chosen;
  Arguments arguments;
  for (const ParsedCommand* part : {&main, &command}) {
    if (!is_on(*part, "--help")) continue;
    arguments.command = "help";
    arguments.text = help_text(part->name);
    return arguments;
  }
  if (is_on(main, "--version") || is_on(command, "--version")) {
    arguments.command = "version";
    arguments.text = cat("xlstm_generate ", version(), " (libtorch ", libtorch_version(), ", ", compiler(), ")\n");
    return arguments;
  }
  for (const ParsedCommand* part : {&main, &command}) {
    for (const std::string& extra : part->app->remaining()) {
      if (extra != "--") refuse_extra(extra, *part);
    }
  }

  arguments.command = command.name;
  arguments.command_line.assign(argv, argv + argc);
  store(&command == &main ? std::vector{&main} : std::vector{&main, &command}, command, arguments);
  if (directory->count() > 0) {
    if (arguments.model) refuse("checkpoint", "one of -m and DIR", "both");
    arguments.model = directory->results().back();
  }
  check_together(arguments);
  return arguments;
}

}  // namespace xlstm
