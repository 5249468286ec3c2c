// Every kernel and scheduler in this executable, listed by one function, and the choice among them. Names are resolved
// once, at load. Compiled backends are strict: what was asked for runs, or an Error says what can run instead.
#pragma once

#include <string>
#include <vector>

#include "xlstm/config/runtime_opts.h"

namespace xlstm {

enum class KernelFamily { kOps, kChunkwise, kSequence, kStep, kAnalysis };

[[nodiscard]] const char* family_name(KernelFamily family);

struct KernelInfo {
  KernelFamily family;
  std::string key;          // registry key, for example chunkwise--native
  std::string device;       // device kind that it runs on, or "any"
  std::string description;  // one line
};

// All kernels of this executable.
[[nodiscard]] const std::vector<KernelInfo>& list_kernels();

// Why a kernel cannot run on a device kind ("cpu", "cuda", "mps"); "" if it can.
[[nodiscard]] std::string why_not(const KernelInfo& kernel, const std::string& device_kind);

struct DeviceInfo {
  std::string name;     // "cpu", "cuda:0", "mps"
  std::string kind;     // "cpu", "cuda", "mps"
  bool available;       // this build and this machine have it
  std::string details;  // what it is, or why it is not available
};

[[nodiscard]] std::vector<DeviceInfo> list_devices();

// The device that `requested` (the option's value) stands for: "auto" becomes the best available one that this
// executable has compiled kernels for; anything else is returned as it is, available or not.
[[nodiscard]] std::string pick_device(const std::string& requested);

// What will run.
struct Resolution {
  std::string device;
  std::string weight_dtype;  // "float32", "bfloat16", "float16", "int8", "int4"
  std::string ops;           // registry keys
  std::string chunkwise;
  std::string sequence;
  std::string step;
  int threads = 1;  // inside operations
  int workers = 1;  // of the chunkwise scheduler
};

// Resolves every `auto`, alias and count. `stored_dtype`: "int8" or "int4" for a run of a checkpoint whose matrices are
// quantized so (model/quantization.h), else "". Error kUsage for a name that does not exist, kDevice for a device,
// kernel or dtype that is not available, listing what is.
[[nodiscard]] Resolution resolve(const RuntimeOpts& opts, const std::string& stored_dtype = "");

}  // namespace xlstm
