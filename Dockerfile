# Built on the same Debian that it runs on, so that both have the same C library.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --package postgres-test-replay \
    && install -D target/release/postgres-test-replay /out/postgres-test-replay

# PostgreSQL's own image brings pg_dump and pg_restore of the newest major: they must not be older than the
# servers that they read.
FROM postgres:18-bookworm
RUN useradd --system --create-home --home-dir /home/replay --uid 10001 replay \
    && install -d -o replay -g replay -m 0700 /var/lib/postgres-test-replay
COPY --from=build /out/postgres-test-replay /usr/local/bin/postgres-test-replay
# For the service, and for commands that `docker exec` runs beside it.
ENV POSTGRES_TEST_REPLAY_DATA_DIR=/var/lib/postgres-test-replay
USER replay
WORKDIR /var/lib/postgres-test-replay
VOLUME /var/lib/postgres-test-replay
EXPOSE 8080
STOPSIGNAL SIGTERM
# The image has no curl; bash speaks enough HTTP for one question.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /health HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && head -n1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["postgres-test-replay"]
CMD ["up", "--addr", "0.0.0.0:8080"]
