#include "xlstm/monitor/monitor_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/monitor/records.h"

namespace xlstm {
namespace {

using Kind = KeyEffect::Kind;
using test::look_of;
using test::record;
using testing::HasSubstr;

MonitorState state_with(std::vector<RunRecord> records) {
  MonitorState state;
  take_look(state, look_of(std::move(records)));
  return state;
}

int64_t selected_pid(const MonitorState& state) {
  return state.look.processes.at(selected_index(state)).record.pid;
}

TEST(MonitorState, TheFirstProcessIsSelectedAtFirst) {
  EXPECT_EQ(selected_pid(state_with({record(3), record(1), record(2)})), 1);
}

TEST(MonitorState, KeysMoveTheSelectionAndStopAtTheEnds) {
  MonitorState state = state_with({record(1), record(2), record(3)});
  const auto after = [&](int key) {
    EXPECT_EQ(press_key(state, key).kind, Kind::kNone);
    return selected_pid(state);
  };
  EXPECT_EQ(after(keys::kDown), 2);
  EXPECT_EQ(after('j'), 3);
  EXPECT_EQ(after(keys::kDown), 3);
  EXPECT_EQ(after('k'), 2);
  EXPECT_EQ(after(keys::kHome), 1);
  EXPECT_EQ(after(keys::kUp), 1);
  EXPECT_EQ(after(keys::kPageDown), 3);
  EXPECT_EQ(after(keys::kPageUp), 1);
  EXPECT_EQ(after(keys::kEnd), 3);
}

TEST(MonitorState, TheSelectionStaysOnItsProcess) {
  MonitorState state = state_with({record(5, "b"), record(6, "a")});
  press_key(state, keys::kDown);
  take_look(state, look_of({record(1, "c"), record(5, "b"), record(6, "a")}));
  EXPECT_EQ(selected_pid(state), 6);
  press_key(state, 's');  // by model: 6, 5, 1
  EXPECT_EQ(selected_index(state), 0u);
  EXPECT_EQ(selected_pid(state), 6);
}

TEST(MonitorState, WhenTheSelectedProcessEndsItsNeighbourIsSelectedAndItIsSaid) {
  MonitorState state = state_with({record(1), record(2), record(3)});
  press_key(state, keys::kDown);
  take_look(state, look_of({record(1), record(3)}));
  EXPECT_EQ(selected_pid(state), 3);
  EXPECT_THAT(state.message, HasSubstr("2 (generate tales) has ended"));
  take_look(state, look_of({}));
  EXPECT_FALSE(state.selected);
  EXPECT_THAT(state.message, HasSubstr("2 processes have ended"));
}

TEST(MonitorState, MessagesGoAfterAWhileOrWithTheNextKey) {
  MonitorState state = state_with({record(1)});
  show_message(state, "hello");
  take_look(state, look_of({record(1)}, state.look.time + 1));
  EXPECT_EQ(state.message, "hello");
  take_look(state, look_of({record(1)}, state.look.time + 10));
  EXPECT_EQ(state.message, "");
  show_message(state, "hello");
  press_key(state, 'x');
  EXPECT_EQ(state.message, "");
}

TEST(MonitorState, ANewProcessWithAnOldIdIsAnotherProcess) {
  MonitorState state = state_with({record(1)});
  RunRecord reborn = record(1);
  reborn.start_id += 7;
  take_look(state, look_of({reborn}));
  EXPECT_EQ(speeds_of(state, reborn).size(), 1u);
  EXPECT_TRUE(speeds_of(state, record(1)).empty());
  EXPECT_THAT(state.message, HasSubstr("has ended"));
}

TEST(MonitorState, KeepsTheSpeedsOfAPhase) {
  MonitorState state;
  RunRecord r = record(1);
  for (int i = 0; i < 3; ++i) {
    r.tok_s = i;
    take_look(state, look_of({r}));
  }
  EXPECT_EQ(speeds_of(state, r), (std::deque<double>{0, 1, 2}));
  r.phase = "prefill";
  take_look(state, look_of({r}));
  EXPECT_EQ(speeds_of(state, r), (std::deque<double>{2}));
  for (size_t i = 0; i < MonitorState::kHistory + 10; ++i) take_look(state, look_of({r}));
  EXPECT_EQ(speeds_of(state, r).size(), MonitorState::kHistory);
}

TEST(MonitorState, PauseHoldsTheListAndGoingOnLooksAtOnce) {
  MonitorState state = state_with({record(1)});
  EXPECT_EQ(press_key(state, 'p').kind, Kind::kNone);
  take_look(state, look_of({record(1), record(2)}));
  EXPECT_EQ(state.look.processes.size(), 1u);
  EXPECT_EQ(press_key(state, ' ').kind, Kind::kLook);
  take_look(state, look_of({record(1), record(2)}));
  EXPECT_EQ(state.look.processes.size(), 2u);
}

TEST(MonitorState, TheIntervalGoesThroughItsStepsAndStopsAtTheEnds) {
  MonitorState state;
  press_key(state, '+');
  EXPECT_EQ(state.interval, 2);
  press_key(state, '-');
  press_key(state, '-');
  EXPECT_EQ(state.interval, 0.5);
  state.interval = 3;  // as --interval may ask for
  press_key(state, '-');
  EXPECT_EQ(state.interval, 2);
  for (int i = 0; i < 20; ++i) press_key(state, '-');
  EXPECT_EQ(state.interval, 0.1);
  for (int i = 0; i < 20; ++i) press_key(state, '+');
  EXPECT_EQ(state.interval, 60);
  state.interval = 3600;
  press_key(state, '+');
  EXPECT_EQ(state.interval, 3600);
}

TEST(MonitorState, TerminateAsksAndOnlyYDoesIt) {
  for (const int no : {int{'n'}, int{'t'}, int{'q'}, int{' '}, keys::kEscape, keys::kDown, int{'\n'}}) {
    MonitorState state = state_with({record(1), record(2)});
    EXPECT_EQ(press_key(state, 't').kind, Kind::kNone);
    ASSERT_TRUE(state.asked_to_terminate);
    EXPECT_EQ(press_key(state, no).kind, Kind::kNone);
    EXPECT_FALSE(state.asked_to_terminate);
    EXPECT_EQ(press_key(state, 'y').kind, Kind::kNone) << "the question is over";
  }
  MonitorState state = state_with({record(1), record(2)});
  press_key(state, 't');
  const KeyEffect effect = press_key(state, 'y');
  EXPECT_EQ(effect.kind, Kind::kTerminate);
  EXPECT_EQ(effect.target.pid, 1);
  EXPECT_FALSE(state.asked_to_terminate);
}

TEST(MonitorState, TheAnswerIsAboutTheProcessThatWasAskedAbout) {
  MonitorState state = state_with({record(1), record(2)});
  press_key(state, 't');
  take_look(state, look_of({record(2)}));  // 1 has ended, 2 is selected now
  EXPECT_EQ(press_key(state, 'y').target.pid, 1);
}

TEST(MonitorState, EmptyCacheIsForTheSelectedProcess) {
  MonitorState state = state_with({record(1), record(2)});
  press_key(state, keys::kDown);
  const KeyEffect effect = press_key(state, 'e');
  EXPECT_EQ(effect.kind, Kind::kEmptyCache);
  EXPECT_EQ(effect.target.pid, 2);
}

TEST(MonitorState, WithoutProcessesNoKeyDoesHarm) {
  MonitorState state = state_with({});
  for (int key = 0; key < 256; ++key) {
    if (key == 'q' || key == 'Q') continue;
    const Kind kind = press_key(state, key).kind;
    EXPECT_TRUE(kind == Kind::kNone || kind == Kind::kLook) << key;
    EXPECT_FALSE(state.asked_to_terminate);
  }
  for (int key = keys::kUp; key <= keys::kEnd; ++key) EXPECT_EQ(press_key(state, key).kind, Kind::kNone);
}

TEST(MonitorState, HelpClosesWithAnyKeyWhichThenDoesNothingElse) {
  MonitorState state = state_with({record(1)});
  press_key(state, 'h');
  EXPECT_TRUE(state.help);
  EXPECT_EQ(press_key(state, 'e').kind, Kind::kNone);
  EXPECT_FALSE(state.help);
  press_key(state, '?');
  EXPECT_EQ(press_key(state, 'q').kind, Kind::kQuit);
}

TEST(MonitorState, QQuits) {
  MonitorState state;
  EXPECT_EQ(press_key(state, 'q').kind, Kind::kQuit);
}

}  // namespace
}  // namespace xlstm
