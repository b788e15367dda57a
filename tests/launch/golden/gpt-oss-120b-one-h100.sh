#!/usr/bin/env bash
# gpt-oss 120B on TensorRT-LLM 1.3, as servesat planned it.
# 1 server of 1 × h100-sxm (tp 1), openai/gpt-oss-120b; up to 21 sequences, 2,048 tokens a step
# predicted  TPOT 15.22 ms ± 2.42, TTFT 371.8 ms ± 120.1, 1,318 output tokens/s in all; by the calibrated cost model
# price      $2.290 an hour, $1,671.70 a month: verda FIN-02 1H100.80S.32V on demand
#            $0.4825 per million output tokens
# proof      no plan of the spec costs less
# memory     1.94 GB of KV cache are needed in a replica, and 5.59 GB more are free
# engine     decides which requests share a step, which are paused, and what of earlier prompts it reuses
#
set -euo pipefail
exec trtllm-serve openai/gpt-oss-120b \
  --config trtllm.yaml \
  --host 0.0.0.0 \
  --port 8000
