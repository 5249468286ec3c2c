#include "src/registry/scheduled_chunkwise.h"

#include <functional>
#include <utility>

#include "xlstm/core/stop.h"

namespace xlstm {
namespace {

class ScheduledChunkwise : public CellKernel {
 public:
  ScheduledChunkwise(std::unique_ptr<Scheduler> scheduler, std::unique_ptr<TileKernel> tiles)
      : scheduler_(std::move(scheduler)), tiles_(std::move(tiles)) {}

  void run(const CellArgs& args) override {
    scheduler_->run(args.spans, tiles_->bind(args), args.may_abandon ? stop_check_ : no_check_);
  }

 private:
  const std::function<void()> stop_check_ = throw_if_stopped;
  const std::function<void()> no_check_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<TileKernel> tiles_;
};

}  // namespace

std::unique_ptr<CellKernel> make_scheduled_chunkwise(std::unique_ptr<Scheduler> scheduler,
                                                     std::unique_ptr<TileKernel> tiles) {
  return std::make_unique<ScheduledChunkwise>(std::move(scheduler), std::move(tiles));
}

}  // namespace xlstm
