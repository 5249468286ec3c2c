#include "xlstm/monitor/screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/monitor/cells.h"
#include "tests/monitor/records.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using test::look_of;
using test::record;
using testing::HasSubstr;
using testing::Not;

MonitorState state_with(std::vector<RunRecord> records) {
  MonitorState state;
  take_look(state, look_of(std::move(records)));
  return state;
}

std::string text_of(const ScreenLine& line) {
  std::string text;
  for (const StyledText& part : line) text += part.text;
  return text;
}

std::string text_of(const std::vector<ScreenLine>& screen) {
  std::string text;
  for (const ScreenLine& line : screen) text += text_of(line) + "\n";
  return text;
}

std::string drawn(const MonitorState& state, ScreenOptions options = {}) {
  return text_of(draw_screen(state, options));
}

// The style of the first part below the summary that holds `text`.
Style style_of_text(const MonitorState& state, const std::string& text) {
  const std::vector<ScreenLine> screen = draw_screen(state, {40, 140, true});
  for (size_t row = 2; row < screen.size(); ++row) {
    for (const StyledText& part : screen[row]) {
      if (part.text.find(text) != std::string::npos) return part.style;
    }
  }
  ADD_FAILURE() << text << " is not on the screen";
  return Style::kPlain;
}

std::vector<RunRecord> many(int count) {
  std::vector<RunRecord> records;
  for (int i = 1; i <= count; ++i) records.push_back(record(1000 + i));
  return records;
}

TEST(Screen, ShowsEverythingAboutTheSelectedProcessOn80By24) {
  const std::string screen = drawn(state_with({record(4242, "xlstm-tales-8m")}));
  for (const char* part : {"1 process",
                           "4242",
                           "generate",
                           "xlstm-tales-8m",
                           "cpu",
                           "bfloat16",
                           "chunkwise--ray_compiled_steps",
                           "golden_ray_cpu",
                           "decode",
                           "50%",
                           "64 of 128 tokens",
                           "0:10 left",
                           "102",
                           "99.2 over the phase",
                           "1.5 GB",
                           "1.0 GB",
                           "soft 8.0 GB",
                           "hard 9.0 GB",
                           "running 1:40",
                           "512 prompt + 64 new tokens",
                           "q quit",
                           "every 1 s"}) {
    EXPECT_THAT(screen, HasSubstr(part));
  }
}

TEST(Screen, HasRoomForMoreColumnsWhenItIsWide) {
  const MonitorState state = state_with({record(1), record(2)});
  const std::string narrow = text_of(draw_screen(state, {24, 80, true})[2]);
  const std::string wide = text_of(draw_screen(state, {24, 140, true})[2]);
  for (const char* heading : {"COMMAND", "DTYPE", "DEV MEM", "PROFILE"}) {
    EXPECT_THAT(narrow, Not(HasSubstr(heading)));
    EXPECT_THAT(wide, HasSubstr(heading));
  }
  for (const char* heading : {"PID", "MODEL", "PHASE", "TOK/S", "RSS"}) EXPECT_THAT(narrow, HasSubstr(heading));
}

TEST(Screen, HasItsRowsAndNeverMoreThanItsColumnsAtAnySize) {
  RunRecord strange = record(99, "\x1b[31m\u202e漢字漢字 \xff a name that never ends, and goes on, and on");
  strange.device_mb = 500;
  strange.device_soft_mb = 400;
  strange.profile = std::string(300, 'p');
  strange.kernel = "漢字\n";
  strange.done = strange.total = INT64_MAX;
  strange.rss_mb = strange.anon_mb = strange.tok_s = 1e300;
  strange.started = 0;
  std::vector<RunRecord> records = many(30);
  records.push_back(strange);
  MonitorState full = state_with(std::move(records));
  MonitorState help = full;
  help.help = true;
  MonitorState asking = full;
  press_key(asking, 't');
  for (const MonitorState& state : {full, help, asking, MonitorState{}}) {
    for (const bool unicode : {true, false}) {
      for (const size_t rows : std::vector<size_t>{0, 1, 7, 8, 9, 11, 15, 24, 40, 101}) {
        for (const size_t columns : std::vector<size_t>{0, 1, 20, 55, 56, 57, 63, 71, 79, 80, 81, 100, 139, 140, 257}) {
          const std::vector<ScreenLine> screen = draw_screen(state, {rows, columns, unicode});
          ASSERT_EQ(screen.size(), rows);
          for (const ScreenLine& line : screen) {
            const std::string text = text_of(line);
            ASSERT_LE(cell_width(text), columns) << rows << "x" << columns << ": " << text;
            ASSERT_EQ(clean_text(text, unicode ? Charset::kUnicode : Charset::kAscii), text);
          }
        }
      }
    }
  }
}

TEST(Screen, SaysWhenItIsTooSmall) {
  EXPECT_THAT(drawn(state_with({record(1)}), {24, 40, true}), HasSubstr("too small: 40x24, needs 56x8"));
  EXPECT_THAT(drawn(state_with({record(1)}), {5, 80, true}), HasSubstr("too small"));
  EXPECT_THAT(drawn(state_with({record(1)}), {8, 56, true}), Not(HasSubstr("too small")));
}

TEST(Screen, TheSelectedProcessIsVisibleAndReversedHoweverLongTheList) {
  MonitorState state = state_with(many(50));
  for (const int steps : {0, 1, 20, 28}) {
    for (int i = 0; i < steps; ++i) press_key(state, keys::kDown);
    const std::string pid = std::to_string(state.look.processes[selected_index(state)].record.pid);
    int reversed = 0;
    for (const ScreenLine& line : draw_screen(state, {})) {
      if (text_of(line).find(pid) == std::string::npos || line.empty() || !line[0].reverse) continue;
      ++reversed;
    }
    EXPECT_EQ(reversed, 1) << pid;
  }
}

TEST(Screen, SaysWhatToDoWhenNothingRuns) {
  MonitorState state;
  Look nothing;
  nothing.problems = {"/tmp/x: belongs to another user"};
  take_look(state, nothing);
  EXPECT_THAT(drawn(state), HasSubstr("no xlstm_generate process is running"));
  EXPECT_THAT(drawn(state), HasSubstr("belongs to another user"));
}

TEST(Screen, CrossedMemoryLinesAreColouredAndMarked) {
  RunRecord r = record(1);
  EXPECT_EQ(style_of_text(state_with({r}), "1.5 GB"), Style::kPlain);
  r.anon_mb = 8500;
  EXPECT_EQ(style_of_text(state_with({r}), "1.5 GB!"), Style::kWarn);
  EXPECT_THAT(drawn(state_with({r}), {24, 140, true}), HasSubstr("over the soft line"));
  r.anon_mb = 9500;
  EXPECT_EQ(style_of_text(state_with({r}), "1.5 GB!"), Style::kBad);
  EXPECT_THAT(drawn(state_with({r}), {24, 140, true}), HasSubstr("over the hard line"));
  r.device_mb = 500;
  r.device_hard_mb = 400;
  EXPECT_EQ(style_of_text(state_with({r}), "500.0 MB!"), Style::kBad);
}

TEST(Screen, ASilentProcessIsSaidToBeSo) {
  MonitorState state;
  Look look = look_of({record(1)});
  look.processes[0].silent_s = 75;
  take_look(state, look);
  EXPECT_THAT(drawn(state), HasSubstr("silent"));
  EXPECT_THAT(drawn(state), HasSubstr("no sign of life for 1:15"));
}

TEST(Screen, TheQuestionNamesWhatItWouldEnd) {
  MonitorState state = state_with({record(77, "tales")});
  press_key(state, 't');
  EXPECT_THAT(text_of(draw_screen(state, {}).back()), HasSubstr("terminate 77 (generate tales)? y/n"));
}

TEST(Screen, HelpNamesEveryKey) {
  MonitorState state = state_with({record(1)});
  press_key(state, 'h');
  for (const char* word : {"quit", "sort", "pause", "time between", "SIGUSR1", "SIGTERM", "select"}) {
    EXPECT_THAT(drawn(state), HasSubstr(word));
  }
}

TEST(Screen, SaysThatItIsPausedAndHowItIsSorted) {
  MonitorState state = state_with({record(1)});
  press_key(state, 'p');
  press_key(state, 's');
  EXPECT_THAT(drawn(state), HasSubstr("PAUSED"));
  EXPECT_THAT(drawn(state), HasSubstr("sort model"));
}

TEST(Screen, HasACurveOfTheSpeedWhereThereIsRoom) {
  MonitorState state;
  RunRecord r = record(1);
  for (const double speed : {10.0, 20.0, 40.0}) {
    r.tok_s = speed;
    take_look(state, look_of({r}));
  }
  EXPECT_THAT(drawn(state), HasSubstr("40.0┤"));
  EXPECT_THAT(drawn(state), HasSubstr("▂▄█"));
  EXPECT_THAT(drawn(state, {24, 80, false}), HasSubstr(":=#"));
}

}  // namespace
}  // namespace xlstm
