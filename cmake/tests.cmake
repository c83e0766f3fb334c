# Tests, the programs that scripts of tests/parity ask, and benchmarks.
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)
enable_testing()
find_program(GOLD ld.gold)

# Makes a program of these test files. Each has a name of its own all the same: build/NAME is a link
# to the program, which then runs what NAME.cc holds (tests/main.cc), and NAME is a target.
function(graft_test_program program)
  set(sources ${ARGN})
  list(TRANSFORM sources PREPEND ${CMAKE_SOURCE_DIR}/tests/)
  list(TRANSFORM sources APPEND .cc)
  add_executable(${program} ${sources})
  target_link_libraries(${program} PRIVATE graft_tools graft::re2 GTest::gtest GTest::gmock)
  target_include_directories(${program} PRIVATE ${RE2_INCLUDE})
  target_compile_definitions(${program} PRIVATE GRAFT_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  if(program IN_LIST ARGN)
    target_link_libraries(${program} PRIVATE GTest::gtest_main)
  else()
    target_sources(${program} PRIVATE $<TARGET_OBJECTS:graft_test_main>)
    set_target_properties(${program} PROPERTIES
      UNITY_BUILD ${GRAFT_UNITY} UNITY_BUILD_BATCH_SIZE 0)  # all at once
  endif()
  if(GOLD)  # links in half of the time
    target_link_options(${program} PRIVATE -fuse-ld=gold)
  endif()
  foreach(name ${ARGN})
    if(name MATCHES "^(cli_|joint_model_test)")  # they run the command
      add_dependencies(${program} graft graft_stop_at)
    endif()
    if(NOT name STREQUAL program)
      add_custom_command(TARGET ${program} POST_BUILD
        COMMAND ${CMAKE_COMMAND} -E create_symlink ${program} ${name})
      add_custom_target(${name} DEPENDS ${program})
    endif()
    add_test(NAME ${name} COMMAND ${CMAKE_BINARY_DIR}/${name})
  endforeach()
endfunction()

add_library(graft_test_main OBJECT tests/main.cc)
target_link_libraries(graft_test_main PRIVATE GTest::gtest GTest::gmock)
graft_optimise(graft_test_main -O0)

add_library(graft_stop_at MODULE tests/stop_at.cc)  # preloaded into commands that tests kill
target_link_libraries(graft_stop_at PRIVATE ${CMAKE_DL_LIBS})

# Most of what a test costs to compile is the headers of tests and of JSON, and what is made of
# their templates: 15 s for each program, more than its own tests. So there are few, of tests whose
# names have the same digest, so that a new one leaves the others where they are.
# Without optimisation a test compiles in three quarters of the time; a few compute so much
# themselves that it pays. Each kind shares its precompiled headers.
string(CONCAT COMPUTING "^(attention|augment.*|gemm_core|gradient|image.*|io_.*|large_gradient"
       "|math|method_trajectories|nf4.*|ops|threads|tokenizer)_test$")
# With a main() of their own, SIMD code, or the fuzz targets' library.
set(ALONE "^(fuzz|gradient|math|ops)_test$")

file(GLOB names CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR}/tests tests/*_test.cc)
set(computing_programs)
set(plain_programs)
foreach(name ${names})
  string(REPLACE ".cc" "" name ${name})
  string(MD5 digest ${name})
  string(SUBSTRING ${digest} 0 1 digit)
  if(name MATCHES ${COMPUTING})
    set(kind computing)
    string(REGEX REPLACE "[0-7]" "0" digit ${digit})  # these are few
    string(REGEX REPLACE "[8-9a-f]" "8" digit ${digit})
  else()
    set(kind plain)
    math(EXPR digit "0x${digit} / 4")  # four programs
  endif()
  set(program ${kind}_tests_${digit})
  if(name MATCHES ${ALONE})
    set(program ${name})
  endif()
  list(APPEND ${kind}_programs ${program})
  list(APPEND tests_of_${program} ${name})
endforeach()

foreach(kind computing plain)
  set(first)
  list(REMOVE_DUPLICATES ${kind}_programs)
  foreach(program ${${kind}_programs})
    graft_test_program(${program} ${tests_of_${program}})
    if(kind STREQUAL computing)
      graft_optimise(${program} -O1)
    else()
      graft_optimise(${program} -O0)
    endif()
    if(first)
      graft_precompile(${program} REUSE_FROM ${first})
    else()
      set(first ${program})
      graft_precompile(${program} <gmock/gmock.h> <gtest/gtest.h> <nlohmann/json.hpp>
        <fmt/format.h>)
    endif()
  endforeach()
endforeach()
target_link_libraries(fuzz_test PRIVATE graft_fuzz)

# What scripts of tests/parity ask the library through. Not of every build: scripts/verify.sh.
foreach(name tokenize_lines masked_lm_logits)
  add_executable(${name} EXCLUDE_FROM_ALL tests/parity/${name}.cc)
  target_link_libraries(${name} PRIVATE graft_models)
endforeach()

if(NOT GRAFT_SANITIZE AND NOT GRAFT_TSAN)  # which make every figure wrong
  file(GLOB benches CONFIGURE_DEPENDS bench/*_bench.cc)
endif()
# Not of every build: `scripts/build.sh release benchmarks`.
add_custom_target(benchmarks)
foreach(source ${benches})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} EXCLUDE_FROM_ALL ${source})
  target_link_libraries(${name} PRIVATE graft_tools benchmark::benchmark)
  add_dependencies(benchmarks ${name})
endforeach()
