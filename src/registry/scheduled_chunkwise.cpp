#include "src/registry/scheduled_chunkwise.h"

#include <utility>

#include "xlstm/schedule/band_plan.h"

namespace xlstm {
namespace {

class ScheduledChunkwise : public CellKernel {
 public:
  ScheduledChunkwise(const BandShape& shape, std::unique_ptr<TileKernel> tiles)
      : shape_(shape), tiles_(std::move(tiles)) {}

  void run(const CellArgs& args) override {
    const std::unique_ptr<TileRunner> runner = tiles_->bind(args);
    run_serially(BandPlan(args.spans, shape_), *runner);
  }

 private:
  BandShape shape_;
  std::unique_ptr<TileKernel> tiles_;
};

}  // namespace

std::unique_ptr<CellKernel> make_scheduled_chunkwise(const ModelDims& dims, const KernelSettings& settings,
                                                     std::unique_ptr<TileKernel> tiles) {
  const BandShape shape{dims.num_heads, settings.heads_per_band, settings.chunk_size};
  return std::make_unique<ScheduledChunkwise>(shape, std::move(tiles));
}

}  // namespace xlstm
