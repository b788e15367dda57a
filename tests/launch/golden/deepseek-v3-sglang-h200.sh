#!/usr/bin/env bash
# DeepSeek-V3 on SGLang 0.5.23, as servesat planned it.
# 1 server of 8 × h200 (tp 1, experts over 8, 1 token ahead by mtp), deepseek-ai/DeepSeek-V3; up to 288 sequences, 2,072 tokens a step and group
# predicted  TPOT 43.1 ms ± 6.853, TTFT 1,505 ms ± 486.2, 6,258 output tokens/s in all; by the calibrated cost model
# price      $27.92 an hour, $20,381.60 a month: civo gpu-h200-sxm-xlarge on demand
#            $1.239 per million output tokens
# proof      no plan of the spec costs less
# memory     25.7 GB of KV cache are needed in a replica, and 178 GB more are free
# engine     decides which requests share a step, which are retracted, and what of earlier prompts its radix cache reuses
#
set -euo pipefail
exec python3 -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 \
  --tp-size 8 \
  --attention-data-parallel-size 8 \
  --ep-size 8 \
  --context-length 2518 \
  --max-running-requests 288 \
  --chunked-prefill-size 16384 \
  --speculative-algorithm EAGLE \
  --speculative-num-steps 1 \
  --speculative-eagle-topk 1 \
  --speculative-num-draft-tokens 2 \
  --kv-cache-dtype fp8_e4m3 \
  --mem-fraction-static 0.85 \
  --host 0.0.0.0 \
  --port 8000
