# Both programs, from one build: `docker build --target runner .` and `docker build --target evaluator .`
# docker-compose.yml builds them; see docs/quick-start.md.
ARG RUST_VERSION=1.95
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-${DEBIAN} AS build
WORKDIR /ebb
# The image has the toolchain; rust-toolchain.toml would add what only linting needs.
ARG RUST_VERSION
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}.0
RUN rustup target add wasm32-wasip2
COPY . .
RUN cargo build --locked --release --package ebb-runner --package ebb-evaluator \
 && cargo build --locked --release --target wasm32-wasip2 --manifest-path guests/Cargo.toml \
        --package ebb-guests --package storage \
 && mkdir -p /out/bin /out/guests /out/var/lib/ebb/volume /out/var/cache/ebb \
 && strip -o /out/bin/ebb-runner target/release/ebb-runner \
 && strip -o /out/bin/ebb-evaluator target/release/ebb-evaluator \
 && cp guests/target/wasm32-wasip2/release/*.wasm /out/guests/

# No shell and no package manager; everything runs as the user `nonroot`, 65532.
FROM gcr.io/distroless/cc-debian12:nonroot AS evaluator
COPY --from=build /out/bin/ebb-evaluator /usr/bin/ebb-evaluator
USER 65532:65532
EXPOSE 9743
HEALTHCHECK --interval=5s --timeout=3s --start-period=5m CMD ["/usr/bin/ebb-evaluator", "--config", "/etc/ebb/evaluator.yml", "healthy"]
ENTRYPOINT ["/usr/bin/ebb-evaluator", "--config", "/etc/ebb/evaluator.yml"]

FROM gcr.io/distroless/cc-debian12:nonroot AS runner
COPY --from=build /out/bin/ebb-runner /usr/bin/ebb-runner
# The example guests. Put your own beside them, or mount a folder.
COPY --from=build /out/guests /usr/share/ebb/guests
# Named volumes take their owner from here.
COPY --from=build --chown=65532:65532 /out/var/lib/ebb /var/lib/ebb
COPY --from=build --chown=65532:65532 /out/var/cache/ebb /var/cache/ebb
USER 65532:65532
EXPOSE 8080 9742
HEALTHCHECK --interval=5s --timeout=3s --start-period=1m CMD ["/usr/bin/ebb-runner", "--config", "/etc/ebb/runner.yml", "healthy"]
ENTRYPOINT ["/usr/bin/ebb-runner", "--config", "/etc/ebb/runner.yml"]
