// What to say of an NVIDIA driver that is too old.
#pragma once

namespace xlstm::cuda {

// Error kDevice. Versions as CUDA gives them: 1000 · major + 10 · minor.
[[noreturn]] void fail_for_old_driver(int driver, int needed);

}  // namespace xlstm::cuda
