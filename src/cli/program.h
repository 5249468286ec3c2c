// The whole program: parses the command line, runs one command, and turns every failure into one line and an exit code.
#pragma once

namespace xlstm {

// Ends the process.
[[noreturn]] void run_program(int argc, char** argv);

}  // namespace xlstm
