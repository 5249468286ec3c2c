// The CPU's tile kernel under the schedulers: whatever runs beside what, the bits are those of tiles run in order.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu/isa.h"
#include "tests/kernels/raw_cell.h"
#include "xlstm/schedule/scheduler.h"

namespace xlstm {
namespace {

using test::RawCell;
using test::RawRunner;
using test::RawShape;

std::vector<Span> make_spans(const std::vector<int64_t>& lengths) {
  std::vector<Span> spans;
  int64_t row = 0;
  for (const int64_t rows : lengths) {
    spans.push_back({static_cast<int64_t>(spans.size()), row, rows});
    row += rows;
  }
  return spans;
}

// As bytes, so that NaN and signed zeros count as differences only if they differ.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
bool same_result(const RawCell& a, const RawCell& b) {
  return same_bits(a.h, b.h) && same_bits(a.c, b.c) && same_bits(a.n, b.n) && same_bits(a.m, b.m) &&
         same_bits(a.narrow, b.narrow);
}

// Best first. Under ThreadSanitizer the best alone: the threads' dealings are the same for all, and it is slow.
std::vector<std::string> tested_isas() {
  std::vector<std::string> isas = cpu::supported_isas();
#if defined(__SANITIZE_THREAD__)
  isas.resize(1);
#endif
  return isas;
}

class TileOrderTest : public testing::TestWithParam<std::string> {
 protected:
  TileOrderTest() { cpu::force_isa(GetParam()); }
  ~TileOrderTest() override { cpu::force_isa(""); }
};

INSTANTIATE_TEST_SUITE_P(Isa, TileOrderTest, testing::ValuesIn(tested_isas()),
                         [](const auto& param) { return param.param; });

const std::vector<RawShape>& shapes() {
  static const std::vector<RawShape> kShapes = {
      {4, {16, 32, 1e-6F}, false}, {3, {5, 33, 1e-6F}, false}, {3, {17, 20, 1e-6F}, true},  {1, {32, 96, 1e-6F}, true},
      {2, {1, 1, 1e-6F}, false},   {5, {8, 64, 1e-6F}, false}, {1, {528, 20, 1e-6F}, false}};
  return kShapes;
}

// A shape whose C is worked on in several blocks of rows is as slow as it is large.
std::vector<int64_t> chunks_of(const RawShape& shape) {
  return shape.dims.dk > 512 ? std::vector<int64_t>{16} : std::vector<int64_t>{1, 16, 40};
}

TEST_P(TileOrderTest, SchedulersGiveTheBitsOfASerialRun) {
  const std::vector<std::vector<Span>> batches = {make_spans({70}), make_spans({33, 96, 7, 0, 64})};
  uint32_t seed = 0;
  for (const RawShape& shape : shapes()) {
    for (const int64_t chunk : chunks_of(shape)) {
      const std::vector<Span>& spans = batches[++seed % batches.size()];
      // Two calls: the second goes on from the states of the first.
      RawCell expected(shape, spans, seed);
      const RawRunner serial(expected, false);
      for (int call = 0; call < 2; ++call) {
        serial.rewind();
        run_serially({spans, {shape.heads, 1, chunk}}, serial);
      }

      ThreadPool pool(2);
      for (const auto& make : {make_queued_scheduler, make_actor_scheduler}) {
        for (const int workers : {2, 3 + static_cast<int>(seed % 6)}) {
          const int64_t band = 1 + (static_cast<int64_t>(seed) + workers) % shape.heads;
          SCOPED_TRACE(testing::Message()
                       << "heads " << shape.heads << " dk " << shape.dims.dk << " dv " << shape.dims.dv << " chunk "
                       << chunk << " workers " << workers << " band " << band << " spans " << spans.size());
          RawCell actual(shape, spans, seed);
          const RawRunner ahead(actual, true);
          const auto scheduler = make(pool, {{shape.heads, band, chunk}, workers});
          for (int call = 0; call < 2; ++call) {
            ahead.rewind();
            scheduler->run(spans, ahead);
          }
          ASSERT_TRUE(same_result(actual, expected));
        }
      }
    }
  }
}

TEST_P(TileOrderTest, EveryWorkerCountAndBandGivesTheBitsOfASerialRun) {
  constexpr int64_t kChunk = 8;
  const std::vector<Span> spans = make_spans({33, 8, 0, 20});
  ThreadPool pool(2);
  for (const RawShape& shape : {RawShape{4, {5, 20, 1e-6F}, false}, RawShape{3, {16, 9, 1e-6F}, true}}) {
    RawCell expected(shape, spans, 11);
    const RawRunner serial(expected, false);
    for (int call = 0; call < 2; ++call) {
      serial.rewind();
      run_serially({spans, {shape.heads, 1, kChunk}}, serial);
    }
    for (const auto& make : {make_queued_scheduler, make_actor_scheduler}) {
      for (int workers = 1; workers <= 8; ++workers) {
        for (int64_t band = 1; band <= shape.heads; ++band) {
          RawCell actual(shape, spans, 11);
          const RawRunner ahead(actual, true);
          const auto scheduler = make(pool, {{shape.heads, band, kChunk}, workers});
          for (int call = 0; call < 2; ++call) {
            ahead.rewind();
            scheduler->run(spans, ahead);
          }
          ASSERT_TRUE(same_result(actual, expected))
              << "heads " << shape.heads << " workers " << workers << " band " << band;
        }
      }
    }
  }
}

TEST_P(TileOrderTest, AllTilesOfAHeadAtOnceGiveTheBitsOfASerialRun) {
  // A thread for each tile, begun last tile first: all but the first wait for their state.
  for (const RawShape& shape : shapes()) {
    const std::vector<Span> spans = make_spans({48});
    RawCell expected(shape, spans, 5);
    run_serially({spans, {shape.heads, shape.heads, 8}}, RawRunner(expected, false));
    RawCell actual(shape, spans, 5);
    const RawRunner ahead(actual, true);
    std::vector<std::thread> threads;
    for (int64_t token = 40; token >= 0; token -= 8) {
      threads.emplace_back([&, token] { ahead.run({0, 0, shape.heads, token, token + 8}); });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_TRUE(same_result(actual, expected)) << "dk " << shape.dims.dk << " dv " << shape.dims.dv;
  }
}

TEST(HeadChain, HandsOnInOrder) {
  cpu::HeadChain chain;
  chain.reset(1.5F);
  EXPECT_EQ(chain.wait_for_m(0), 1.5F);
  EXPECT_TRUE(chain.has_state(0));
  EXPECT_FALSE(chain.is_followed(16));
  std::thread next([&] {
    EXPECT_EQ(chain.wait_for_m(16), 2.5F);
    chain.pass_m(32, 3.5F);
    chain.wait_for_state(16);
    chain.pass_state(32);
  });
  chain.pass_m(16, 2.5F);
  EXPECT_EQ(chain.wait_for_m(32), 3.5F);
  EXPECT_TRUE(chain.is_followed(16));
  EXPECT_FALSE(chain.has_state(32));
  chain.pass_state(16);
  chain.wait_for_state(32);
  EXPECT_TRUE(chain.has_state(32));
  next.join();
}

TEST(HeadChain, WhoWaitsForAFailedTileIsTold) {
  cpu::HeadChain chain;
  chain.reset(0);
  std::thread next([&] { EXPECT_THROW((void)chain.wait_for_m(16), EarlierTileFailed); });
  std::thread state([&] { EXPECT_THROW(chain.wait_for_state(16), EarlierTileFailed); });
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  chain.give_up();
  next.join();
  state.join();
  // An earlier tile that still runs does not take it back.
  chain.pass_m(16, 1);
  chain.pass_state(16);
  EXPECT_THROW((void)chain.wait_for_m(16), EarlierTileFailed);
  EXPECT_THROW(chain.wait_for_state(16), EarlierTileFailed);
  chain.reset(4);
  EXPECT_EQ(chain.wait_for_m(0), 4);
}

}  // namespace
}  // namespace xlstm
