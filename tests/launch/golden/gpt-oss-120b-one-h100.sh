#!/usr/bin/env bash
# gpt-oss 120B on TensorRT-LLM 1.3, as servesat planned it.
# 1 server of 1 × h100-sxm (tp 1), openai/gpt-oss-120b; up to 29 sequences, 2,029 tokens a step
# predicted  TPOT 17.01 ms ± 2.67, TTFT 301.4 ms ± 111.8, 1,650 output tokens/s in all; by the calibrated cost model
# price      $2.290 an hour, $1,671.70 a month: verda FIN-02 1H100.80S.32V on demand
#            $0.3856 per million output tokens
# proof      no plan of the spec costs less
# memory     1.4 GB of KV cache are needed in a replica, and 6.1 GB more are free
# engine     decides which requests share a step, which are paused, and what of earlier prompts it reuses
#
set -euo pipefail
exec trtllm-serve openai/gpt-oss-120b \
  --config trtllm.yaml \
  --host 0.0.0.0 \
  --port 8000
