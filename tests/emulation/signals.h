// Faults of the processor in kernels.
#pragma once

namespace xlstm::emulation {

// Gets a signal and the address of its fault, on the OS thread of the fault. Returns if no kernel runs there.
using TakeFault = void (*)(int signal, const void* address);

// From now on `take`, in place of one given before, gets the faults of this OS thread: memory that is not there,
// operations that are refused, instructions that stop a program. What it returns from does what it did before. Does
// nothing in builds with a sanitizer, whose own handlers say more.
void catch_faults_of_this_thread(TakeFault take);

}  // namespace xlstm::emulation
