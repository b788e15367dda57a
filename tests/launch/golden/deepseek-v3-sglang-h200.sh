#!/usr/bin/env bash
# DeepSeek-V3 on SGLang 0.5.23, as servesat planned it.
# 1 server of 8 × h200 (tp 1, experts over 8), deepseek-ai/DeepSeek-V3; up to 656 sequences, 2,082 tokens a step and group
# at best    TPOT 49.92 ms, TTFT 21.01 ms, 13,141 output tokens/s in all; by the ideal cost model
# expected   TPOT 91.27 ms, TTFT 2,842 ms, 6,779 output tokens/s; by the calibrated one, from sglang 0.5.9
# price      $63.30 an hour, $46,206.08 a month: aws us-east-1 on demand
#            $1.338 per million output tokens
# proof      no plan of the spec costs less
# memory     57.6 GB of KV cache are needed in a replica, and 161 GB more are free
# engine     decides which requests share a step, which are retracted, and what of earlier prompts its radix cache reuses
#
set -euo pipefail
exec python3 -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 \
  --tp-size 8 \
  --attention-data-parallel-size 8 \
  --ep-size 8 \
  --context-length 2500 \
  --max-running-requests 656 \
  --chunked-prefill-size 16384 \
  --kv-cache-dtype fp8_e4m3 \
  --mem-fraction-static 0.85 \
  --host 0.0.0.0 \
  --port 8000
