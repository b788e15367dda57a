#!/usr/bin/env bash
# LLaMA 3 405B on vLLM-TPU 0.32, as servesat planned it.
# 1 server of 64 × tpu-v5e on 16 nodes (tp 64), RedHatAI/Meta-Llama-3.1-405B-Instruct-quantized.w8a8; up to 88 sequences, 134 tokens a step
# at best    TPOT 11.62 ms, 7,574 output tokens/s in all; by the ideal cost model
# expected   TPOT 39.82 ms, 2,210 output tokens/s; by the calibrated one, from vllm-tpu
# price      $76.80 an hour, $56,064.00 a month: gcp us-central1 on demand
#            $2.817 per million output tokens
# proof      no plan of the spec costs less
# memory     186 GB of KV cache are needed in a replica, and 385 GB more are free
# engine     decides which requests share a step, which are preempted, and the shapes that it compiles while starting
# prompts    are not in this plan, as the workload has no prompt_tokens: the servers take 2,048 of their tokens a step
#
# usage: the address of this node, which the others reach
# each server stands on 16 nodes: one runs serve.sh
set -euo pipefail
export NEW_MODEL_DESIGN=1
export TPU_MULTIHOST_BACKEND=ray
leader=${1:?the address of the first node}
ray start --head --port=6379
exec vllm serve RedHatAI/Meta-Llama-3.1-405B-Instruct-quantized.w8a8 \
  --tensor-parallel-size 64 \
  --max-model-len 8192 \
  --max-num-seqs 6 \
  --max-num-batched-tokens 134 \
  --kv-cache-dtype fp8 \
  --gpu-memory-utilization 0.92 \
  --additional-config '{"sharding": {"sharding_strategy": {"enable_dp_attention": true, "attn_dp_size": 16}}}' \
  --distributed-executor-backend ray \
  --host 0.0.0.0 \
  --port 8000
