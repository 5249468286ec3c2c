// Faults of the processor in kernels.
#pragma once

namespace xlstm::cuda_emulator {

// From now on a kernel of this OS thread that touches memory which is not there, or that a check in its code stops,
// ends by Worker::fault; elsewhere such a fault does what it did before.
void catch_faults_of_this_thread();

}  // namespace xlstm::cuda_emulator
