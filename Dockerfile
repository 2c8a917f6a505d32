# The two commands on a CPU: docker build -t evo . && docker run --rm evo            (`make evolve`)
#                            docker run --rm evo make test
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends git g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /evo
COPY . .
# The index of a CPU build of torch, as PyTorch's installation page gives it; without one, pip takes its default build.
ARG TORCH_INDEX=
RUN python -m venv .venv \
    && if [ -n "$TORCH_INDEX" ]; then \
         .venv/bin/pip install --quiet "$(grep '^torch==' constraints.txt)" --index-url "$TORCH_INDEX"; \
       fi \
    && make setup
CMD ["make", "evolve"]
