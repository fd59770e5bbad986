package config_test
import ("testing";"fmt";"context";"os";"path/filepath"
"github.com/holdfast-telemetry/holdfast/internal/config"
"github.com/holdfast-telemetry/holdfast/internal/exporter/otlpgrpc"
"github.com/holdfast-telemetry/holdfast/internal/exporter/file"
"github.com/holdfast-telemetry/holdfast/internal/receiver/otlpreceiver"
"github.com/holdfast-telemetry/holdfast/internal/plan"
"github.com/holdfast-telemetry/holdfast/internal/extension/healthcheck"
"github.com/holdfast-telemetry/holdfast/internal/exporter"
"encoding/json"
"github.com/holdfast-telemetry/holdfast/internal/processor/batch"
"github.com/holdfast-telemetry/holdfast/internal/processor/memorylimiter"
"github.com/holdfast-telemetry/holdfast/internal/failover"
"github.com/holdfast-telemetry/holdfast/internal/journal"
)
func TestZ(t *testing.T){
 reg := &config.Registry{Types: []config.Type{
  {Kind: config.Receivers, Name:"otlp", Default: otlpreceiver.Default, Supplied: true},
  {Kind: config.Processors, Name:"batch", Default: batch.Default , Supplied: true},
  {Kind: config.Processors, Name:"memory_limiter", Default: memorylimiter.Default , Supplied: true},
  {Kind: config.Exporters, Name:"otlp_grpc", Aliases: []string{"otlp"}, Default: func() any { return otlpgrpc.Default() }},
  {Kind: config.Exporters, Name:"file", Default: func() any { return file.Default() }},
  {Kind: config.Connectors, Name:"failover", Default: failover.Default},
  {Kind: config.Extensions, Name:"health_check", Default: healthcheck.Default},{Kind: config.Extensions, Name:"file_storage", Default: journal.Default},
 }}
 
 dir := "/work/shared/seeds/configs/"
 for _, set := range [][]string{{"000-02"},{"000-05"},{"000-05","000-06"},{"000-08"},{"000-10"},{"000-02","000-10"},{"001-01","001-02"},{"001-01","001-03"},{"001-02"},{"000-06"}} {
  var uris []string
  for _, x := range set { m, _ := filepath.Glob(dir+x+"*.yaml"); uris = append(uris, m...) }
  for _, frag := range []bool{false, true} {
  if frag && len(set)>1 { continue }
  c, err := config.Load(context.Background(), config.Options{URIs: uris, Registry: reg, Fragment: frag})
  fmt.Println("==", set, "fragment", frag); if err != nil {fmt.Println(err)}
  if c != nil { for _, x := range c.Findings { fmt.Println(x) }
   p, fs := plan.Build(c, func(t string) (exporter.QueueMode, bool) { if t == "file" { return exporter.QueueImplied, true }; return 0, true })
   fmt.Println("-- plan")
   for _, x := range fs { fmt.Println(x) }
   if os.Getenv("PLAN") != "" { b, _ := json.MarshalIndent(p, "", " "); fmt.Println(string(b)) }
  }
 }
 }
}
