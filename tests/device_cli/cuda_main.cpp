// xlstm_generate whose devices cuda:0 and cuda:1 are the emulator: the whole program with the CUDA kernels, on a
// machine without a GPU. A third one stands for a GPU that is too old.
#include "src/cli/program.h"
#include "src/registry/cuda_backend.h"
#include "tests/cuda_emulator/emulator.h"

int main(int argc, char** argv) {
  // The kernels' own tests look for faults; here whole models run.
  xlstm::cuda_emulator::settings().order = xlstm::cuda_emulator::Order::kForward;
  xlstm::replace_device_backend(xlstm::cuda_backend({{{"cuda:0", "cuda", true, "emulated"}, at::kCPU},
                                                     {{"cuda:1", "cuda", true, "emulated"}, at::kCPU},
                                                     {{"cuda:2", "cuda", false, "too old"}, at::kCPU}}));
  xlstm::run_program(argc, argv);
}
