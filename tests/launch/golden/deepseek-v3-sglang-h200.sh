#!/usr/bin/env bash
# DeepSeek-V3 on SGLang 0.5.23, as servesat planned it.
# 1 server of 8 × h200 (tp 1, experts over 8, 1 token ahead by mtp), deepseek-ai/DeepSeek-V3; up to 280 sequences, 2,070 tokens a step and group
# predicted  TPOT 42.84 ms ± 6.811, TTFT 1,470 ms ± 474.9, 6,128 output tokens/s in all; by the calibrated cost model
# price      $27.92 an hour, $20,381.60 a month: civo gpu-h200-sxm-xlarge on demand
#            $1.266 per million output tokens
# proof      no plan of the spec costs less
# memory     50 GB of KV cache are needed in a replica, and 153 GB more are free
# engine     decides which requests share a step, which are retracted, and what of earlier prompts its radix cache reuses
#
set -euo pipefail
exec python3 -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 \
  --tp-size 8 \
  --attention-data-parallel-size 8 \
  --ep-size 8 \
  --context-length 2518 \
  --max-running-requests 280 \
  --chunked-prefill-size 16384 \
  --speculative-algorithm EAGLE \
  --speculative-num-steps 1 \
  --speculative-eagle-topk 1 \
  --speculative-num-draft-tokens 2 \
  --mem-fraction-static 0.85 \
  --host 0.0.0.0 \
  --port 8000
