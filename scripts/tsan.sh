#!/usr/bin/env bash
# Tests of what runs in parallel under the thread sanitizer. Parallel loops are on std::thread there
# (GRAFT_TSAN), as the sanitizer does not see what OpenMP's runtime waits for.
# usage: tsan.sh [NAME...]     NAME: only these test binaries
set -euo pipefail
cd "$(dirname "$0")/.."
tests=("$@")
if (( ! $# )); then
    tests=(
        threads_test session_test train_step_test recompute_test fold_test fuse_test params_test
        data_loader_test data_dataset_test text_data_test attention_test matmul_test gemm_core_test
        ops_test joint_model_test cli_story_test cli_text_test
    )
fi
export TSAN_OPTIONS=history_size=4:second_deadlock_stack=1
# Some fifty times slower than the release build.
export GRAFT_TEST_LIMIT=${GRAFT_TEST_LIMIT:-3600}
scripts/test.sh tsan "${tests[@]}"
