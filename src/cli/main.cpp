#include "src/cli/program.h"

int main(int argc, char** argv) {
  xlstm::run_program(argc, argv);
}
