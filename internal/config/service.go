// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/featuregate"

	"github.com/holdfast-telemetry/holdfast/internal/otlp"
)

// serviceBlock is the service section as it is written.
type serviceBlock struct {
	Extensions []string                 `mapstructure:"extensions"`
	Pipelines  map[string]pipelineBlock `mapstructure:"pipelines"`
	Telemetry  Telemetry                `mapstructure:"telemetry"`
	Admission  Admission                `mapstructure:"admission"`
	Reload     Reload                   `mapstructure:"reload"`
}

type pipelineBlock struct {
	Receivers  []string `mapstructure:"receivers"`
	Processors []string `mapstructure:"processors"`
	Exporters  []string `mapstructure:"exporters"`
}

const servicePath = "service"

// decodeService reads the service section and checks what it refers to.
func (l *loader) decodeService() {
	block := serviceBlock{Telemetry: DefaultTelemetry(), Reload: DefaultReload()}
	value, ok := l.tree[servicePath].(map[string]any)
	if ok || l.tree[servicePath] == nil {
		l.decode(servicePath, value, &block)
	}
	s := &l.cfg.Service
	s.Extensions, s.Telemetry, s.Admission, s.Reload = block.Extensions, block.Telemetry, block.Admission, block.Reload
	for _, id := range sortedKeys(block.Pipelines) {
		l.addPipeline(id, block.Pipelines[id])
	}
	slices.SortStableFunc(s.Pipelines, func(a, b Pipeline) int {
		return cmp.Or(cmp.Compare(a.Signal, b.Signal), cmp.Compare(a.ID, b.ID))
	})
	if len(block.Pipelines) == 0 && !l.opts.Fragment && !noPipelines.IsEnabled() {
		l.fail("service::pipelines", "", "there is no pipeline: `service::pipelines` must name at least one")
	}
	l.checkReferences()
}

// noPipelines is the Collector's gate of that name. Upstream's service, which registers it there, is never linked.
var noPipelines = featuregate.GlobalRegistry().MustRegister("service.AllowNoPipelines", featuregate.StageAlpha,
	featuregate.WithRegisterDescription("Allow a configuration without pipelines."))

func pipelinePath(id string) string { return "service::pipelines::" + id }

func (l *loader) addPipeline(id string, b pipelineBlock) {
	path := pipelinePath(id)
	word, _, _ := strings.Cut(id, "/")
	signal, ok := otlp.ParseSignal(word)
	if !ok {
		var words []string
		for _, s := range otlp.Signals {
			words = append(words, s.String())
		}
		l.fail(path, hint(word, words, "signals"), "pipeline %q: unknown signal %q", id, word)
		return
	}
	if !l.opts.Fragment {
		for _, part := range []struct {
			key string
			ids []string
		}{{"receivers", b.Receivers}, {"exporters", b.Exporters}} {
			if len(part.ids) == 0 {
				l.fail(path+separator+part.key, "", "pipeline %q must have at least one of `%s`", id, part.key)
			}
		}
	}
	l.cfg.Service.Pipelines = append(l.cfg.Service.Pipelines, Pipeline{
		ID: id, Signal: signal, Receivers: b.Receivers, Processors: b.Processors, Exporters: b.Exporters,
		Position: l.docs.defined(path),
	})
}

// checkReferences reports what pipelines and extensions name and nobody defined, and what is named twice.
func (l *loader) checkReferences() {
	for i := range l.cfg.Service.Pipelines {
		p := &l.cfg.Service.Pipelines[i]
		l.checkList(pipelinePath(p.ID)+"::receivers", p.Receivers, Receivers, Connectors)
		l.checkList(pipelinePath(p.ID)+"::processors", p.Processors, Processors)
		l.checkList(pipelinePath(p.ID)+"::exporters", p.Exporters, Exporters, Connectors)
	}
	l.checkList("service::extensions", l.cfg.Service.Extensions, Extensions)
	l.checkStorageReferences()
}

// checkStorageReferences reports queues that name a storage nobody defined.
func (l *loader) checkStorageReferences() {
	for _, ref := range l.storageReferences() {
		if l.definedAs(ref.id, Extensions) {
			continue
		}
		if typ, _ := typeAndName(ref.id); typ != storageType && l.types[Extensions][typ] != nil {
			l.fail(ref.path, "", "%s is not a storage", ref.id)
			continue
		}
		l.missing(ref.path, ref.id, []Kind{Extensions})
	}
}

// checkList checks references that one of kinds must define.
func (l *loader) checkList(path string, ids []string, kinds ...Kind) {
	for i, id := range ids {
		at := fmt.Sprintf("%s::%d", path, i)
		if slices.Index(ids, id) < i {
			l.fail(at, "", "%s is named twice", id)
		}
		if l.definedAs(id, kinds...) {
			continue
		}
		l.missing(at, id, kinds)
	}
}

// definedAs reports whether id is written in one of the sections, usable or not.
func (l *loader) definedAs(id string, kinds ...Kind) bool {
	return slices.ContainsFunc(kinds, func(k Kind) bool {
		_, ok := l.section(k)[id]
		return ok
	})
}

// missing reports a reference to something that is not defined and is not supplied.
func (l *loader) missing(at, id string, kinds []Kind) {
	what := singular(kinds[0])
	if l.opts.Fragment {
		if !l.assumed[what+id] {
			l.assumed[what+id] = true
			l.add(Note, at, fmt.Sprintf("assumed: %s %s", what, id), "")
		}
		l.assume(kinds, id, at)
		return
	}
	var names []string
	for _, k := range kinds {
		names = append(names, keys(l.section(k))...)
	}
	hintText := hint(id, names, "defined")
	if len(names) == 0 {
		hintText = l.types.nearestType(kinds[0], id)
	}
	l.fail(at, hintText, "%s %q is not defined", what, id)
}

// DefaultReload returns the defaults of service::reload.
func DefaultReload() Reload {
	return Reload{Trial: time.Minute, Preflight: "auto", OnBadBoot: "good"}
}

// Validate implements confmap.Validator.
func (r *Reload) Validate() error {
	var errs []error
	if r.Trial < 0 {
		errs = append(errs, errors.New("`trial` must not be negative"))
	}
	if !slices.Contains([]string{"auto", "off"}, r.Preflight) {
		errs = append(errs, fmt.Errorf("`preflight` %q is none of auto, off", r.Preflight))
	}
	if r.OnBadBoot != "good" && r.OnBadBoot != "fail" {
		errs = append(errs, fmt.Errorf("`on_bad_boot` %q is none of good, fail", r.OnBadBoot))
	}
	return errors.Join(errs...)
}

// Validate implements confmap.Validator.
func (a *Admission) Validate() error {
	if a.LimitMiB < 0 {
		return errors.New("`limit_mib` must not be negative; 0 = a quarter of the memory there is")
	}
	return nil
}
