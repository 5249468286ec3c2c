// xlstm_generate whose device mps is the emulator: the whole program with the Metal kernels, on a machine without them.
#include "src/cli/program.h"
#include "src/registry/metal_backend.h"
#include "tests/metal_emulator/emulator.h"

int main(int argc, char** argv) {
  // The kernels' own tests look for faults; here whole models run.
  xlstm::emulator::settings().check_races = false;
  xlstm::emulator::settings().check_bounds = false;
  xlstm::replace_device_backend(xlstm::metal_backend({"mps", "mps", true, "emulated"}, at::kCPU));
  xlstm::run_program(argc, argv);
}
