// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

// Package deploy renders deploy/kubernetes with kustomize's own library and decodes every object strictly into the types
// of Kubernetes' API, so that a misspelt field is an error here and not nothing in a cluster. A module of its own, since
// these types are many times the product. No cluster is asked, no socket opened.
package deploy

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var renderings = []string{"base", "overlays/single", "overlays/production"}

// objects is one rendering.
type objects struct {
	namespaces []*corev1.Namespace
	maps       map[string]*corev1.ConfigMap
	services   map[string]*corev1.Service
	budgets    []*policyv1.PodDisruptionBudget
	gateway    *appsv1.StatefulSet
	agent      *appsv1.DaemonSet
}

func render(t *testing.T, name string) *objects {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).
		Run(filesys.MakeFsOnDisk(), filepath.Join("../../deploy/kubernetes", name))
	if err != nil {
		t.Fatal(err)
	}
	o := &objects{maps: map[string]*corev1.ConfigMap{}, services: map[string]*corev1.Service{}}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err == nil {
			err = o.add(r.GetKind(), text)
		}
		if err != nil {
			t.Fatalf("%s %s: %v", r.GetKind(), r.GetName(), err)
		}
		if ns := r.GetNamespace(); ns != "observability" && r.GetKind() != "Namespace" {
			t.Errorf("%s %s is in namespace %q", r.GetKind(), r.GetName(), ns)
		}
	}
	if o.gateway == nil || o.agent == nil || len(o.namespaces) != 1 {
		t.Fatal("gateway, agent or namespace is missing")
	}
	return o
}

// add decodes strictly: a field that the API does not know is an error, and so is a kind that this test does not.
func (o *objects) add(kind string, text []byte) error {
	switch kind {
	case "Namespace":
		n := &corev1.Namespace{}
		o.namespaces = append(o.namespaces, n)
		return strict(text, n, "v1")
	case "ConfigMap":
		m := &corev1.ConfigMap{}
		err := strict(text, m, "v1")
		o.maps[m.Name] = m
		return err
	case "Service":
		s := &corev1.Service{}
		err := strict(text, s, "v1")
		o.services[s.Name] = s
		return err
	case "PodDisruptionBudget":
		b := &policyv1.PodDisruptionBudget{}
		o.budgets = append(o.budgets, b)
		return strict(text, b, "policy/v1")
	case "StatefulSet":
		o.gateway = &appsv1.StatefulSet{}
		return strict(text, o.gateway, "apps/v1")
	case "DaemonSet":
		o.agent = &appsv1.DaemonSet{}
		return strict(text, o.agent, "apps/v1")
	}
	return fmt.Errorf("no test knows this kind")
}

func strict(text []byte, into any, version string) error {
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		return err
	}
	if !strings.Contains(string(text), "apiVersion: "+version+"\n") {
		return fmt.Errorf("apiVersion is not %s", version)
	}
	return nil
}

func each(t *testing.T, check func(t *testing.T, o *objects)) {
	for _, name := range renderings {
		t.Run(name, func(t *testing.T) { check(t, render(t, name)) })
	}
}

// pods are the templates of a rendering, by the workload's name, with the claims they may mount.
func (o *objects) pods() map[string]*corev1.PodTemplateSpec {
	return map[string]*corev1.PodTemplateSpec{o.gateway.Name: &o.gateway.Spec.Template, o.agent.Name: &o.agent.Spec.Template}
}

func collectorOf(t *testing.T, p *corev1.PodTemplateSpec) *corev1.Container {
	t.Helper()
	if len(p.Spec.Containers) != 1 || p.Spec.Containers[0].Name != "collector" {
		t.Fatal("the container is not called collector: alerts and rollout.sh do not find it")
	}
	return &p.Spec.Containers[0]
}

func TestAMisspeltFieldIsFound(t *testing.T) {
	for _, text := range []string{
		"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a}\nspec: {podManagmentPolicy: Parallel}\n",
		"apiVersion: apps/v1beta1\nkind: StatefulSet\nmetadata: {name: a}\n",
		"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a}\nspec: {replicas: three}\n",
	} {
		if err := new(objects).add("StatefulSet", []byte(text)); err == nil {
			t.Errorf("taken: %s", text)
		}
	}
	if err := new(objects).add("Ingress", nil); err == nil {
		t.Error("an unknown kind is taken")
	}
}

func TestPodsRunWithoutAnyRight(t *testing.T) {
	each(t, func(t *testing.T, o *objects) {
		for name, p := range o.pods() {
			c, s := collectorOf(t, p), p.Spec.SecurityContext
			if s == nil || !isTrue(s.RunAsNonRoot) || s.RunAsUser == nil || *s.RunAsUser != 10001 ||
				s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s: pod security %+v", name, s)
			}
			if p.Spec.AutomountServiceAccountToken == nil || *p.Spec.AutomountServiceAccountToken {
				t.Errorf("%s is given a token of the API", name)
			}
			if p.Spec.HostNetwork || p.Spec.HostPID || p.Spec.HostIPC {
				t.Errorf("%s shares the node's network, processes or memory", name)
			}
			for _, c := range append(p.Spec.InitContainers, *c) {
				x := c.SecurityContext
				if x == nil || x.Privileged != nil || x.AllowPrivilegeEscalation == nil || *x.AllowPrivilegeEscalation ||
					!isTrue(x.ReadOnlyRootFilesystem) || x.Capabilities == nil ||
					!slices.Equal(x.Capabilities.Drop, []corev1.Capability{"ALL"}) {
					t.Errorf("%s/%s: security %+v", name, c.Name, x)
				}
			}
			if x := c.SecurityContext; len(x.Capabilities.Add) > 0 || x.RunAsUser != nil {
				t.Errorf("%s: the collector has rights of its own: %+v", name, x)
			}
		}
		if f := o.gateway.Spec.Template.Spec.SecurityContext.FSGroup; f == nil || *f != 10001 {
			t.Error("without fsGroup the gateway's volume is root's")
		}
	})
}

func isTrue(b *bool) bool { return b != nil && *b }

// The process must be allowed to end by itself before it is killed, and to say not ready first.
func TestPodsAreGivenTheTimeTheyAskFor(t *testing.T) {
	each(t, func(t *testing.T, o *objects) {
		for name, p := range o.pods() {
			total := 3 * time.Second // the watchdog's
			for _, arg := range collectorOf(t, p).Args {
				flag, value, _ := strings.Cut(arg, "=")
				if flag == "--shutdown-timeout" || flag == "--shutdown-delay" {
					d, err := time.ParseDuration(value)
					if err != nil {
						t.Error(err)
					}
					total += d
				}
			}
			grace := time.Duration(*p.Spec.TerminationGracePeriodSeconds) * time.Second
			if total < 30*time.Second || total > grace {
				t.Errorf("%s wants %s and gets %s", name, total, grace)
			}
		}
	})
}

func TestProbesAskWhatNoBackendChanges(t *testing.T) {
	each(t, func(t *testing.T, o *objects) {
		for name, p := range o.pods() {
			c := collectorOf(t, p)
			for path, probe := range map[string]*corev1.Probe{"/livez": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
				if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || portNamed(c, probe.HTTPGet.Port.StrVal) != 13133 {
					t.Errorf("%s: probe of %s: %+v", name, path, probe)
				}
			}
			if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s: without a memory limit there is no memory budget", name)
			}
			if !strings.Contains(c.Image, ":") || strings.HasSuffix(c.Image, ":latest") {
				t.Errorf("%s runs the image %q", name, c.Image)
			}
		}
	})
}

func portNamed(c *corev1.Container, name string) int32 {
	for _, p := range c.Ports {
		if p.Name == name {
			return p.ContainerPort
		}
	}
	return 0
}

// What is mounted exists; configurations are mounted as directories, since only these follow the ConfigMap.
func TestMountsBelongToVolumesAndConfigurationsFollow(t *testing.T) {
	each(t, func(t *testing.T, o *objects) {
		for name, p := range o.pods() {
			volumes := map[string]*corev1.Volume{}
			for i := range p.Spec.Volumes {
				volumes[p.Spec.Volumes[i].Name] = &p.Spec.Volumes[i]
			}
			for _, claim := range o.gateway.Spec.VolumeClaimTemplates {
				if p == &o.gateway.Spec.Template {
					volumes[claim.Name] = &corev1.Volume{}
				}
			}
			configured := false
			for _, m := range collectorOf(t, p).VolumeMounts {
				v := volumes[m.Name]
				if v == nil {
					t.Errorf("%s mounts %s, which is no volume", name, m.Name)
					continue
				}
				if v.ConfigMap == nil {
					continue
				}
				configured = true
				if o.maps[v.ConfigMap.Name] == nil || o.maps[v.ConfigMap.Name].Data["config.yaml"] == "" {
					t.Errorf("%s mounts %s, which has no config.yaml", name, v.ConfigMap.Name)
				}
				if m.SubPath != "" || m.MountPath != "/etc/otel" {
					t.Errorf("%s mounts its configuration at %s, subPath %q", name, m.MountPath, m.SubPath)
				}
			}
			if !configured || !slices.Contains(collectorOf(t, p).Args, "--config=/etc/otel/config.yaml") {
				t.Errorf("%s has no configuration", name)
			}
		}
	})
}

// The directories a configuration writes to are mounted: the root file system is read-only.
func TestWhatTheGatewayWritesLiesOnItsVolume(t *testing.T) {
	each(t, func(t *testing.T, o *objects) {
		for name, p := range o.pods() {
			config := o.maps[name+"-config"].Data["config.yaml"]
			for line := range strings.Lines(config) {
				key, path, _ := strings.Cut(strings.TrimSpace(line), ": ")
				if key != "directory" && (key != "path" || !strings.HasPrefix(path, "/var")) {
					continue
				}
				if !slices.ContainsFunc(collectorOf(t, p).VolumeMounts, func(m corev1.VolumeMount) bool {
					return !m.ReadOnly && (path == m.MountPath || strings.HasPrefix(path, m.MountPath+"/"))
				}) {
					t.Errorf("%s writes to %s, which is on no volume", name, path)
				}
			}
		}
	})
}

func TestSelectorsFindTheirPods(t *testing.T) {
	each(t, func(t *testing.T, o *objects) {
		finds := func(who string, selector map[string]string) {
			found := 0
			for _, p := range o.pods() {
				if labels.SelectorFromSet(selector).Matches(labels.Set(p.Labels)) {
					found++
				}
			}
			if found != 1 || len(selector) == 0 {
				t.Errorf("%s finds %d workloads by %v", who, found, selector)
			}
		}
		for name, s := range o.services {
			finds("service "+name, s.Spec.Selector)
			for _, port := range s.Spec.Ports {
				for _, p := range o.pods() {
					if c := collectorOf(t, p); p.Labels["app"] == s.Spec.Selector["app"] && portNamed(c, port.TargetPort.StrVal) != port.Port {
						t.Errorf("service %s: port %d leads to %q", name, port.Port, port.TargetPort.StrVal)
					}
				}
			}
		}
		for _, b := range o.budgets {
			finds("the budget", b.Spec.Selector.MatchLabels)
		}
		for who, s := range map[string]*metav1.LabelSelector{"the StatefulSet": o.gateway.Spec.Selector, "the DaemonSet": o.agent.Spec.Selector} {
			finds(who, s.MatchLabels)
		}
		head := o.services[o.gateway.Spec.ServiceName]
		if head == nil || head.Spec.ClusterIP != corev1.ClusterIPNone {
			t.Errorf("serviceName %q is no headless service", o.gateway.Spec.ServiceName)
		}
		if s := o.services["otel-agent"]; s.Spec.InternalTrafficPolicy == nil || *s.Spec.InternalTrafficPolicy != corev1.ServiceInternalTrafficPolicyLocal {
			t.Error("the agents' service leads to other nodes")
		}
	})
}

// Applications without the node's network reach its agent by its address.
func TestAgentsAreReachableOnTheirNode(t *testing.T) {
	o := render(t, "base")
	for _, p := range collectorOf(t, &o.agent.Spec.Template).Ports {
		if want := map[string]int32{"otlp-grpc": 4317, "otlp-http": 4318}[p.Name]; p.HostPort != want {
			t.Errorf("port %s is %d on the node, not %d", p.Name, p.HostPort, want)
		}
	}
	text, err := filesys.MakeFsOnDisk().ReadFile("../../deploy/kubernetes/examples/application.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var app appsv1.Deployment
	if err := strict(text, &app, "apps/v1"); err != nil {
		t.Fatal(err)
	}
	env := app.Spec.Template.Spec.Containers[0].Env
	if len(env) != 2 || env[0].ValueFrom.FieldRef.FieldPath != "status.hostIP" || env[1].Value != "http://$("+env[0].Name+"):4317" {
		t.Errorf("the example asks by %+v", env)
	}
}

func TestOverlaysDoWhatTheySay(t *testing.T) {
	single, production := render(t, "overlays/single"), render(t, "overlays/production")
	if len(single.budgets) != 0 || *single.gateway.Spec.Replicas != 1 {
		t.Errorf("single: %d budgets, %d replicas", len(single.budgets), *single.gateway.Spec.Replicas)
	}
	claim := production.gateway.Spec.VolumeClaimTemplates[0].Spec
	if len(production.budgets) != 1 || *production.gateway.Spec.Replicas != 3 || claim.StorageClassName == nil ||
		len(production.gateway.Spec.Template.Spec.TopologySpreadConstraints) != 2 {
		t.Errorf("production: %+v", production.gateway.Spec)
	}
	for _, o := range []*objects{single, production} {
		if r := o.gateway.Spec.PersistentVolumeClaimRetentionPolicy; r == nil || r.WhenScaled != appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
			t.Error("scaling down deletes a queue")
		}
	}
}
