#!/usr/bin/env bash
# gpt-oss 120B on TensorRT-LLM 1.3, as servesat planned it.
# 1 server of 1 × h100-sxm (tp 1), openai/gpt-oss-120b; up to 25 sequences, 2,025 tokens a step
# predicted  TPOT 16.27 ms ± 2.702, TTFT 365.9 ms ± 127, 1,473 output tokens/s in all; by the calibrated cost model
# price      $2.290 an hour, $1,671.70 a month: verda FIN-02 1H100.80S.32V on demand
#            $0.4319 per million output tokens
# proof      no plan of the spec costs less
# memory     1.21 GB of KV cache are needed in a replica, and 6.3 GB more are free
# engine     decides which requests share a step, which are paused, and what of earlier prompts it reuses
#
set -euo pipefail
exec trtllm-serve openai/gpt-oss-120b \
  --config trtllm.yaml \
  --host 0.0.0.0 \
  --port 8000
