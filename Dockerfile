FROM golang:1.26.8-bookworm AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false
# The modules are a layer of their own, so that a change to the code does not download them again.
ARG GOPROXY=https://proxy.golang.org,direct
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# A version is given, or it is the commit of the checkout.
ARG VERSION
RUN version=$VERSION; head=$(cat .git/HEAD 2>/dev/null || true); ref=${head#ref: }; \
    if [ -z "$version" ] && [ -n "$ref" ]; then \
      commit=$(cat ".git/$ref" 2>/dev/null || sed -n "s|^\([0-9a-f]*\) $ref\$|\1|p" .git/packed-refs 2>/dev/null || true); \
      version=$(echo "${commit:-$ref}" | cut -c1-12); \
    fi; \
    go build -trimpath -ldflags "-s -w -X main.version=${version:-unknown}" -o /out/server ./cmd/server

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/server /server
EXPOSE 8080
# Within a container only the port it publishes can be reached, and that only where its owner publishes it.
ENV PASSBOOK_ADDR=0.0.0.0:8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/server", "healthcheck"]
ENTRYPOINT ["/server"]
