// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/holdfast-telemetry/holdfast/internal/app"
	"github.com/holdfast-telemetry/holdfast/internal/app/sources"
	"github.com/holdfast-telemetry/holdfast/internal/cli/command"
	"github.com/holdfast-telemetry/holdfast/internal/config"
	"github.com/holdfast-telemetry/holdfast/internal/plan"
	"github.com/holdfast-telemetry/holdfast/internal/reload"
	"github.com/holdfast-telemetry/holdfast/internal/telemetry"
	"github.com/holdfast-telemetry/holdfast/internal/vfs"
)

// Exit codes of a run (reload, section 12).
const (
	exitFailed  = 1 // could not start, or wrong usage
	exitDropped = 3 // stopped; items queued in memory had to be dropped
	exitStuck   = 4 // stopped by the watchdog
)

// watchdogGrace is how long a stop may take beyond its bound before the process ends all the same.
const watchdogGrace = 3 * time.Second

type runFlags struct {
	uris, sets, gates []string
	pidFile, stateDir string
	adminSocket       string
	shutdownTimeout   time.Duration
	shutdownDelay     time.Duration
	statusHosts       []string
	implicitHealth    string
	strict            bool
}

func (f *runFlags) register(cmd *cobra.Command) {
	s := cmd.Flags()
	command.RegisterConfigFlags(cmd, &f.uris, &f.sets, &f.gates)
	s.StringVar(&f.pidFile, "pid-file", "", "write the process ID here; removed at exit")
	s.StringVar(&f.stateDir, "state-dir", "", "directory for state (default $HOLDFAST_STATE_DIR, $STATE_DIRECTORY, /var/lib/holdfast)")
	s.StringVar(&f.adminSocket, "admin-socket", "", "unix socket for commands to this instance (default STATE_DIR/admin.sock)")
	s.DurationVar(&f.shutdownTimeout, "shutdown-timeout", 25*time.Second, "bound of an orderly stop")
	s.DurationVar(&f.shutdownDelay, "shutdown-delay", 0, "stay up this long, not ready, before stopping")
	s.StringSliceVar(&f.statusHosts, "status-host", nil, "host name under which the status page may be asked for")
	s.StringVar(&f.implicitHealth, "implicit-health", "auto", "health endpoint without a health_check extension: auto, off or an address")
	s.BoolVar(&f.strict, "strict", false, "warnings and supplied parts are errors")
}

func newRunCommand() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a configuration",
		Long: `Run a configuration until SIGTERM or SIGINT. The second signal cuts deliveries, the third exits at once.

Exit codes: 0 stopped, nothing dropped; 1 could not start; 3 stopped, items queued in memory had to be dropped;
4 a step of the stop did not end and was abandoned.`,
		Example: "  holdfast run --config config.yaml --set service.telemetry.logs.level=debug",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(flags.uris) == 0 {
				return errors.New("at least one --config is needed (try: holdfast run --config config.yaml)")
			}
			return run(cmd.Context(), &flags, cmd.InOrStdin(), cmd.ErrOrStderr())
		},
	}
	flags.register(cmd)
	return cmd
}

func run(ctx context.Context, f *runFlags, stdin io.Reader, stderr io.Writer) error {
	if ctx == nil {
		ctx = context.Background()
	}
	// Before anything else: a signal that comes while starting must not kill by default.
	signals := make(chan os.Signal, 8) // more than a person sends; further ones are the same wish again
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Stop(signals)

	removePID, err := writePIDFile(f.pidFile)
	if err != nil {
		return &command.ExitError{Code: exitFailed, Err: err}
	}
	defer removePID()
	telemetry.SetMemoryLimit()

	if err := command.ApplyFeatureGates(f.gates); err != nil {
		return &command.ExitError{Code: exitFailed, Err: err}
	}
	from := &sources.Set{URIs: f.uris, Sets: f.sets, Stdin: stdin, Strict: f.strict}
	first, refused := from.Load(ctx, nil)
	if refused != nil && !everRan(f) {
		return &command.ExitError{Code: exitFailed, Err: refused}
	}
	tel, flush, err := firstTelemetry(first)
	if err != nil {
		return &command.ExitError{Code: exitFailed, Err: err}
	}
	defer flush()
	a, err := app.New(app.Options{
		Sources: from, Version: command.Version, Commit: readVersion().Commit, Collector: command.CollectorVersion, Telemetry: tel,
		ShutdownTimeout: f.shutdownTimeout, ShutdownDelay: f.shutdownDelay, ImplicitHealth: f.implicitHealth,
		StateDir: f.stateDir, AdminSocket: f.adminSocket, StatusHosts: f.statusHosts,
	})
	if err != nil {
		return &command.ExitError{Code: exitFailed, Err: err}
	}
	tel = a.Telemetry()
	driver := reload.New(reload.DriverSettings{
		Builder: a, Reader: from, Watched: from.Watched(), Telemetry: tel, Disk: vfs.OS(), URIs: f.uris, Version: command.Version,
		Places: func(storages []string) []reload.Place { return reload.Places(f.stateDir, os.Getenv, storages) },
	})
	a.ReloadBy(driver)
	if err := driver.Start(ctx); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), watchdogGrace)
		defer cancel()
		return &command.ExitError{Code: exitFailed, Err: errors.Join(err, a.Abandon(undo))}
	}
	notifySystemd("READY=1")
	return serve(ctx, a, driver, f, tel.Logger, signals)
}

// serve waits for the signal to stop, and stops.
func serve(
	ctx context.Context, a *app.App, driver *reload.Driver, f *runFlags, log *zap.Logger, signals <-chan os.Signal,
) error {
	for waiting := true; waiting; {
		select {
		case s := <-signals:
			switch s {
			case syscall.SIGHUP:
				log.Info("Received signal from OS", zap.String("signal", s.String()))
				driver.Notify("SIGHUP")
			case syscall.SIGUSR1:
				a.LogStatus()
			default:
				log.Info("Received signal from OS", zap.String("signal", s.String()))
				waiting = false
			}
		case <-ctx.Done():
			waiting = false
		}
	}
	notifySystemd("STOPPING=1")
	done := make(chan app.Report, 1)
	go func() { done <- stop(context.WithoutCancel(ctx), a, driver) }()
	watchdog := time.NewTimer(f.shutdownDelay + f.shutdownTimeout + watchdogGrace)
	defer watchdog.Stop()
	for again := 0; ; {
		select {
		case r := <-done:
			return conclude(r)
		case s := <-signals:
			if s != syscall.SIGTERM && s != syscall.SIGINT {
				continue
			}
			if again++; again > 1 {
				return &command.ExitError{Code: exitDropped, Err: errors.New("third signal: exit at once")}
			}
			log.Warn("Received signal from OS: deliveries are cut", zap.String("signal", s.String()))
			a.Hasten()
		case <-watchdog.C:
			return &command.ExitError{Code: exitStuck, Err: fmt.Errorf("shutdown: %s is still running, giving up", a.Stopping())}
		}
	}
}

func conclude(r app.Report) error {
	switch {
	case r.Stuck != "":
		return &command.ExitError{Code: exitStuck, Err: r.Err}
	case r.Dropped > 0:
		return &command.ExitError{Code: exitDropped, Err: fmt.Errorf("shutdown: %d items queued in memory were dropped: no backend took them", r.Dropped)}
	case r.Err != nil:
		return &command.ExitError{Code: exitFailed, Err: r.Err}
	}
	return nil
}

// driverTime bounds the end of what a reload was about; a warm generation is let go of in it.
const driverTime = 3 * time.Second

// stop ends reloads, and then everything.
func stop(ctx context.Context, a *app.App, driver *reload.Driver) app.Report {
	a.Announce()
	bounded, cancel := context.WithTimeout(ctx, driverTime)
	defer cancel()
	err := driver.Stop(bounded)
	report := a.Stop(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		report.Err = errors.Join(report.Err, err)
	}
	return report
}

// everRan reports whether a configuration of these sources ran before: only then can a last good one be started where the
// offered one is refused.
func everRan(f *runFlags) bool {
	for _, place := range reload.Places(f.stateDir, os.Getenv, nil) {
		if all, err := reload.ReadHistory(vfs.OS(), place.Dir, f.uris); err == nil && len(all) > 0 {
			return true
		}
	}
	return false
}

// firstTelemetry makes the logger as the configuration says. It is read again to be started; nil = it was refused, and the
// last good one may be.
func firstTelemetry(o *sources.Offer) (*telemetry.Telemetry, func(), error) {
	set := config.DefaultTelemetry()
	if o != nil {
		set = o.Config.Service.Telemetry
	}
	resource, err := telemetry.NewResource(set.Resource, command.Version)
	if err != nil {
		return nil, nil, err
	}
	log, flush, err := telemetry.NewLogger(set.Logs, resource)
	if err != nil && o != nil {
		err = fmt.Errorf("%s: service::telemetry::logs: %w", o.Config.Where("service::telemetry::logs"), err)
	}
	if err != nil {
		return nil, nil, err
	}
	if o != nil {
		logFindings(log, o.Config, o.Plan)
	}
	return &telemetry.Telemetry{Logger: log, Metrics: telemetry.NewRegistry(), Resource: resource}, flush, nil
}

// logFindings says once, at start, what validate would say.
func logFindings(log *zap.Logger, cfg *config.Config, p *plan.Plan) {
	for _, x := range append(cfg.Findings[:len(cfg.Findings):len(cfg.Findings)], p.Findings...) {
		if x.Text == plan.OpenToAll {
			continue // said when it listens
		}
		fields := []zap.Field{zap.String("place", x.Position.String()), zap.String("component", x.Component)}
		if x.Severity == config.Warning {
			log.Warn(x.Text, fields...)
		} else {
			log.Info(x.Text, fields...)
		}
	}
}
