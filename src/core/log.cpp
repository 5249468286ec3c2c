#include "xlstm/core/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>

#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kTrace: return spdlog::level::trace;
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarn: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
    case Level::kOff: return spdlog::level::off;
  }
  return spdlog::level::info;
}

std::shared_ptr<spdlog::logger> make_logger(const std::string& file) {
  std::vector<spdlog::sink_ptr> sinks;
  auto console = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  console->set_pattern("%^%l%$: %v");
  if (std::getenv("NO_COLOR") != nullptr) console->set_color_mode(spdlog::color_mode::never);
  sinks.push_back(std::move(console));
  if (!file.empty()) {
    try {
      auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file);
      sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
      sinks.push_back(std::move(sink));
    } catch (const spdlog::spdlog_ex& e) {
      fail(ExitCode::kOutput, "log_file", file, "a writable file", e.what());
    }
  }
  auto fresh = std::make_shared<spdlog::logger>("xlstm", sinks.begin(), sinks.end());
  // Without a handler spdlog prints errors in a form of its own.
  fresh->set_error_handler(
      [file](const std::string& reason) { fail(ExitCode::kOutput, "log_file", file, "room to write", reason); });
  return fresh;
}

std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> instance = make_logger("");
  return instance;
}

}  // namespace

const std::vector<std::string>& level_names() {
  static const std::vector<std::string> names = {"trace", "debug", "info", "warn", "error", "off"};
  return names;
}

Level parse_level(std::string_view name) {
  const auto& names = level_names();
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return static_cast<Level>(i);
  }
  fail(ExitCode::kUsage, "log_level", "configuration", cat("one of ", join(names, ", ")), name);
}

void configure(Level level, const std::string& file) {
  auto fresh = make_logger(file);
  fresh->set_level(to_spdlog(level));
  fresh->flush_on(spdlog::level::warn);
  logger() = std::move(fresh);
}

void debug(std::string_view message) {
  logger()->debug("{}", message);
}
void info(std::string_view message) {
  logger()->info("{}", message);
}
void warn(std::string_view message) {
  logger()->warn("{}", message);
}
void error(std::string_view message) {
  logger()->error("{}", message);
}
void flush() {
  logger()->flush();
}
bool enabled(Level level) {
  return logger()->should_log(to_spdlog(level));
}

}  // namespace xlstm::log
