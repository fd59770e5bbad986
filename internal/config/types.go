// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"
)

// types finds a Type by kind and by any of its spellings.
type types map[Kind]map[string]*Type

func newTypes(r *Registry) types {
	ts := types{}
	for _, k := range Kinds {
		ts[k] = map[string]*Type{}
	}
	if r == nil {
		return ts
	}
	for i := range r.Types {
		t := &r.Types[i]
		ts[t.Kind][t.Name] = t
		for _, a := range t.Aliases {
			ts[t.Kind][a] = t
		}
	}
	return ts
}

// unknown says what is wrong with a type name that is not there.
func (ts types) unknown(k Kind, name string) (text, hintText string) {
	text = fmt.Sprintf("unknown type %q", name)
	if near := Nearest(name, keys(ts[k])); near != "" {
		return text, fmt.Sprintf("did you mean %q?", near)
	}
	for _, other := range Kinds {
		if other != k && ts[other][name] != nil {
			return text, fmt.Sprintf("%s is one of the %s", name, other)
		}
	}
	if slices.Contains(foreignTypes[k], name) {
		return fmt.Sprintf("type %q is one of the Collector's %s that this build does not have", name, k),
			"native: " + list(keys(ts[k]))
	}
	return text, hint(name, keys(ts[k]), "types")
}

// nearestType hints at a type where nothing is defined that a reference could have meant.
func (ts types) nearestType(k Kind, id string) string {
	typ, _ := typeAndName(id)
	if near := Nearest(typ, keys(ts[k])); near != "" && near != typ {
		return fmt.Sprintf("there are none; did you mean %q?", near)
	}
	return "there are none"
}

// foreignTypes are types of the Collector's distributions that are not native here. A configuration that names one is
// told so, instead of that it is misspelt.
var foreignTypes = map[Kind][]string{
	Receivers: {
		"apache", "awscloudwatch", "awscontainerinsightreceiver", "awsecscontainermetrics", "awsfirehose", "awss3",
		"awsxray", "azureblob", "azureeventhub", "azuremonitor", "carbon", "chrony", "cloudflare", "cloudfoundry",
		"collectd", "couchdb", "datadog", "docker_stats", "elasticsearch", "expvar", "file_log", "filelog",
		"filestats", "fluentforward", "github", "googlecloudpubsub", "haproxy", "host_metrics", "hostmetrics",
		"httpcheck", "iis", "influxdb", "jaeger", "jmx", "journald", "k8s_cluster", "k8s_events", "k8sobjects",
		"kafka", "kafkametrics", "kubeletstats", "loki", "memcached", "mongodb", "mongodbatlas", "mysql",
		"namedpipe", "netflow", "nginx", "nsxt", "opencensus", "oracledb", "otelarrow", "otlpjsonfile", "podman_stats",
		"postgresql", "prometheus", "prometheus_simple", "prometheusremotewrite", "pulsar", "purefa", "rabbitmq",
		"receiver_creator", "redis", "sapm", "signalfx", "skywalking", "snmp", "snowflake", "solace", "splunk_hec",
		"splunkenterprise", "sqlquery", "sqlserver", "sshcheck", "statsd", "syslog", "systemd", "tcplog", "udplog",
		"vcenter", "webhookevent", "windowseventlog", "windowsperfcounters", "zipkin", "zookeeper",
	},
	Processors: {
		"attributes", "cumulativetodelta", "deltatocumulative", "deltatorate", "filter", "geoip", "groupbyattrs",
		"groupbytrace", "interval", "isolationforest", "k8sattributes", "k8s_attributes", "logdedup", "logstransform",
		"metricsgeneration", "metricstarttime", "metricstransform", "probabilistic_sampler", "redaction",
		"remotetap", "resource", "resourcedetection", "schema", "span", "sumologic", "tail_sampling", "transform",
		"unroll",
	},
	Exporters: {
		"alertmanager", "awscloudwatchlogs", "awsemf", "awskinesis", "awss3", "awsxray", "azureblob",
		"azuredataexplorer", "azuremonitor", "bmchelix", "carbon", "cassandra", "clickhouse", "coralogix", "datadog",
		"dataset", "doris", "elasticsearch", "faro", "googlecloud", "googlecloudpubsub", "googlemanagedprometheus",
		"honeycombmarker", "influxdb", "jaeger", "kafka", "kinetica", "loadbalancing", "load_balancing", "logicmonitor",
		"logzio", "loki", "mezmo", "opencensus", "opensearch", "otelarrow", "prometheus", "prometheusremotewrite",
		"pulsar", "rabbitmq", "sapm", "sentry", "signalfx", "splunk_hec", "stef", "sumologic", "syslog",
		"tencentcloud_logservice", "tinybird", "zipkin",
	},
	Connectors: {
		"count", "datadog", "exceptions", "forward", "grafanacloud", "metricsaslogs", "otlpjson", "roundrobin",
		"routing", "servicegraph", "signal_to_metrics", "slowsql", "spanmetrics", "span_metrics", "sum",
	},
	Extensions: {
		"ack", "asapclient", "awsproxy", "azure_auth", "basicauth", "basic_auth", "bearertokenauth",
		"bearer_token_auth", "cgroup_runtime", "db_storage", "docker_observer", "ecs_observer", "ecs_task_observer",
		"googleclientauth", "headers_setter", "host_observer", "http_forwarder", "jaegerremotesampling",
		"k8s_leader_elector", "k8s_observer", "kafkatopics_observer", "oauth2client", "oidc", "opamp", "redis_storage",
		"remotetap", "sigv4auth", "solarwindsapmsettings", "sumologic",
	},
}

// foreignKeys are keys of the Collector's components of the same type that the native ones do not have.
var foreignKeys = map[string][]string{
	"extensions/health_check": {"use_v2", "http", "grpc", "component_health"},
	"exporters/file":          {"group_by", "encoding"},
}

// foreignKey reports whether the Collector's component of that type has the key.
func foreignKey(k Kind, typ, key string) bool {
	return slices.Contains(foreignKeys[string(k)+"/"+typ], key)
}

func list(words []string) string { return strings.Join(slices.Sorted(slices.Values(words)), ", ") }
