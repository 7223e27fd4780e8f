// Pins github.com/docker/cli v29.8.1+incompatible and all that it needs; made by flatcar-ext pin.
module wrapper

go 1.26.0

tool github.com/docker/cli/cmd/docker

require github.com/docker/cli v29.8.1+incompatible // indirect

require dario.cat/mergo v1.0.2 // indirect

require github.com/containerd/errdefs v1.0.0 // indirect

require github.com/containerd/errdefs/pkg v0.3.0 // indirect

require github.com/containerd/log v0.1.0 // indirect

require github.com/containerd/platforms v1.0.0-rc.5 // indirect

require github.com/distribution/reference v0.6.0 // indirect

require github.com/docker/cli-docs-tool v0.11.0 // indirect

require github.com/docker/distribution v2.8.3+incompatible // indirect

require github.com/docker/docker-credential-helpers v0.9.9 // indirect

require github.com/docker/go-connections v0.8.1 // indirect

require github.com/docker/go-units v0.5.0 // indirect

require github.com/fvbommel/sortorder v1.2.0 // indirect

require github.com/go-jose/go-jose/v4 v4.1.5 // indirect

require github.com/go-viper/mapstructure/v2 v2.5.0 // indirect

require github.com/gogo/protobuf v1.3.2 // indirect

require github.com/google/shlex v0.0.0-20191202100458-e7afc7fbc510 // indirect

require github.com/google/uuid v1.6.0 // indirect

require github.com/mattn/go-runewidth v0.0.29 // indirect

require github.com/moby/go-archive v0.3.3 // indirect

require github.com/moby/moby/api v1.56.0 // indirect

require github.com/moby/moby/client v0.6.0 // indirect

require github.com/moby/patternmatcher v0.6.1 // indirect

require github.com/moby/swarmkit/v2 v2.1.2 // indirect

require github.com/moby/sys/atomicwriter v0.1.0 // indirect

require github.com/moby/sys/capability v0.4.0 // indirect

require github.com/moby/sys/sequential v0.7.0 // indirect

require github.com/moby/sys/signal v0.7.1 // indirect

require github.com/moby/sys/symlink v0.3.0 // indirect

require github.com/moby/term v0.5.2 // indirect

require github.com/morikuni/aec v1.1.0 // indirect

require github.com/opencontainers/go-digest v1.0.0 // indirect

require github.com/opencontainers/image-spec v1.1.1 // indirect

require github.com/pkg/browser v0.0.0-20240102092130-5ac0b6a4141c // indirect

require github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // indirect

require github.com/sirupsen/logrus v1.10.2 // indirect

require github.com/spf13/cobra v1.10.2 // indirect

require github.com/spf13/pflag v1.0.10 // indirect

require github.com/tonistiigi/go-rosetta v0.0.0-20220804170347-3f4430f2d346 // indirect

require go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp v0.71.0 // indirect

require go.opentelemetry.io/otel v1.46.0 // indirect

require go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc v1.46.0 // indirect

require go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc v1.46.0 // indirect

require go.opentelemetry.io/otel/metric v1.46.0 // indirect

require go.opentelemetry.io/otel/sdk v1.46.0 // indirect

require go.opentelemetry.io/otel/sdk/metric v1.46.0 // indirect

require go.opentelemetry.io/otel/trace v1.46.0 // indirect

require go.yaml.in/yaml/v3 v3.0.5 // indirect

require golang.org/x/sync v0.23.0 // indirect

require golang.org/x/sys v0.48.0 // indirect

require golang.org/x/term v0.46.0 // indirect

require golang.org/x/text v0.42.0 // indirect

require tags.cncf.io/container-device-interface v1.1.1 // indirect

require github.com/Azure/go-ansiterm v0.0.0-20250102033503-faa5f7b0171c // indirect

require github.com/Microsoft/go-winio v0.6.2 // indirect

require github.com/beorn7/perks v1.0.1 // indirect

require github.com/cenkalti/backoff/v5 v5.0.3 // indirect

require github.com/cespare/xxhash/v2 v2.3.0 // indirect

require github.com/clipperhouse/uax29/v2 v2.7.0 // indirect

require github.com/docker/go-events v0.1.0 // indirect

require github.com/docker/go-metrics v0.1.0 // indirect

require github.com/docker/libtrust v0.0.0-20160708172513-aabc10ec26b7 // indirect

require github.com/felixge/httpsnoop v1.1.0 // indirect

require github.com/go-logr/logr v1.4.4 // indirect

require github.com/go-logr/stdr v1.2.2 // indirect

require github.com/golang/protobuf v1.5.4 // indirect

require github.com/gorilla/mux v1.8.1 // indirect

require github.com/grpc-ecosystem/grpc-gateway/v2 v2.30.0 // indirect

require github.com/inconshreveable/mousetrap v1.1.0 // indirect

require github.com/klauspost/compress v1.19.2 // indirect

require github.com/moby/docker-image-spec v1.3.1 // indirect

require github.com/moby/sys/user v0.4.1 // indirect

require github.com/moby/sys/userns v0.2.1 // indirect

require github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect

require github.com/prometheus/client_golang v1.22.0 // indirect

require github.com/prometheus/client_model v0.6.1 // indirect

require github.com/prometheus/common v0.62.0 // indirect

require github.com/prometheus/procfs v0.15.1 // indirect

require go.etcd.io/raft/v3 v3.6.0 // indirect

require go.opentelemetry.io/auto/sdk v1.2.1 // indirect

require go.opentelemetry.io/otel/exporters/otlp/otlptrace v1.46.0 // indirect

require go.opentelemetry.io/proto/otlp v1.11.0 // indirect

require golang.org/x/net v0.59.0 // indirect

require golang.org/x/time v0.16.0 // indirect

require google.golang.org/genproto/googleapis/api v0.0.0-20260825221802-da73d73af1c5 // indirect

require google.golang.org/genproto/googleapis/rpc v0.0.0-20260825221802-da73d73af1c5 // indirect

require google.golang.org/grpc v1.83.2 // indirect

require google.golang.org/protobuf v1.36.12 // indirect
