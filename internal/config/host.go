// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/collector/config/configtls"
)

// checkHost looks at the files and directories a configuration names, as they are here (reload, section 4). Nothing
// is created. A directory that is missing and can be created is no finding.
func (l *loader) checkHost() {
	if l.opts.Fragment {
		return
	}
	for _, kind := range Kinds {
		for _, id := range sortedKeys(l.cfg.Components[kind]) {
			c := l.cfg.Components[kind][id]
			path := string(kind) + separator + id
			Walk(c.Config, func(key string, v any) {
				switch v := v.(type) {
				case configtls.ServerConfig:
					l.checkTLS(join(path, key), &v.Config, v.ClientCAFile, func() error {
						_, err := v.LoadTLSConfig(context.Background())
						return err
					})
				case configtls.ClientConfig:
					if v.Insecure && v.CAFile == "" && v.CAPem == "" {
						return // nothing is loaded
					}
					l.checkTLS(join(path, key), &v.Config, "", func() error {
						_, err := v.LoadTLSConfig(context.Background())
						return err
					})
				}
			})
			l.checkWrites(path, c.Config)
		}
	}
	logs := &l.cfg.Service.Telemetry.Logs
	for _, list := range []struct {
		key   string
		paths []string
	}{{"output_paths", logs.OutputPaths}, {"error_output_paths", logs.ErrorOutputPaths}} {
		for i, file := range list.paths {
			if file != "stdout" && file != "stderr" {
				path := fmt.Sprintf("service::telemetry::logs::%s::%d", list.key, i)
				if file = l.localFile(file); file != "" {
					l.checkFile(path, file, false, notMade)
				}
			}
		}
	}
	l.each(Extensions, func(_, path string, m map[string]any) {
		dir, ok := m["directory"].(string)
		if !ok {
			dir = defaultStorageDirectory
		}
		l.checkDirectory(path+"::directory", dir, m["create_directory"] != false, switchedOff)
	}, storageType)
	l.each(Exporters, func(_, path string, m map[string]any) {
		if file, ok := m["path"].(string); ok && file != "" {
			l.checkFile(path+"::path", file, m["create_directory"] != false, switchedOff)
		}
	}, "file")
	l.checkProfiles()
}

// writer is implemented by configurations of components that open files to write to when they start.
type writer interface {
	// Writes are the files, by key.
	Writes() map[string]string
}

// checkWrites looks at the files of a component that does not make their directories.
func (l *loader) checkWrites(path string, cfg any) {
	w, ok := cfg.(writer)
	if !ok {
		return
	}
	files := w.Writes()
	for _, key := range sortedKeys(files) {
		if file := l.localFile(files[key]); file != "" && key != "path" {
			l.checkFile(join(path, key), file, false, notMade)
		}
	}
}

// localFile is the file a path or file: URL of an output leads to; empty = it is no file.
func (l *loader) localFile(output string) string {
	u, err := url.Parse(output)
	if err != nil || u.Scheme == "" {
		return output
	}
	if u.Scheme == "file" {
		return u.Path
	}
	return ""
}

// checkFile looks at a file that will be written to. What is there may be a device or a pipe, but no directory.
func (l *loader) checkFile(path, file string, create bool, uncreated string) {
	if info, err := os.Stat(file); err == nil {
		if info.IsDir() {
			l.here(path, "%s is a directory; a file is needed", file)
		} else if syscall.Access(file, 0x2) != nil {
			l.here(path, "file %s is not writable by this user", file)
		}
		return
	}
	l.checkDirectory(path, filepath.Dir(file), create, uncreated)
}

// checkProfiles refuses a second profile of this process: there is one.
func (l *loader) checkProfiles() {
	first := ""
	l.each(Extensions, func(id, path string, m map[string]any) {
		file, _ := m["save_to_file"].(string)
		switch {
		case file == "" || !slices.Contains(l.cfg.Service.Extensions, id):
		case first != "":
			l.fail(path+"::save_to_file", "leave it out of one", "a process has one profile, which %s saves", first)
		default:
			first = id
		}
	}, "pprof")
}

// here adds a finding that is an error where this host is the target, and otherwise a warning.
func (l *loader) here(path, format string, args ...any) {
	severity := Warning
	if l.opts.Here {
		severity = Error
	}
	l.add(severity, path, l.outside(path, "")+fmt.Sprintf(format, args...), "")
}

// Why a directory that is missing stays so.
const (
	switchedOff = "create_directory is false"
	notMade     = "nobody makes it"
)

func (l *loader) checkDirectory(path, dir string, create bool, uncreated string) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if link, lstat := os.Lstat(dir); lstat == nil && link.Mode()&fs.ModeSymlink != 0 {
			l.here(path, "%s is a symbolic link to nothing", dir)
			return
		}
	}
	switch {
	case err == nil && !info.IsDir():
		l.here(path, "%s is not a directory", dir)
	case err == nil:
		if !writable(dir) {
			l.here(path, "directory %s is not writable by this user", dir)
		}
	case !errors.Is(err, fs.ErrNotExist):
		l.here(path, "directory %s: %v", dir, plainError(err))
	case !create:
		l.here(path, "directory %s does not exist, and %s", dir, uncreated)
	default:
		l.checkCreatable(path, dir)
	}
}

// checkCreatable looks at the nearest directory above dir that exists.
func (l *loader) checkCreatable(path, dir string) {
	for above := filepath.Dir(dir); ; above = filepath.Dir(above) {
		info, err := os.Stat(above)
		switch {
		case err == nil && !info.IsDir():
			l.here(path, "directory %s cannot be created: %s is not a directory", dir, above)
			return
		case err == nil && !writable(above):
			l.here(path, "directory %s cannot be created: %s is not writable by this user", dir, above)
			return
		case err == nil || above == filepath.Dir(above):
			return
		case !errors.Is(err, fs.ErrNotExist):
			l.here(path, "directory %s cannot be created: %v", dir, plainError(err))
			return
		}
	}
}

// writable asks for the right to write and search (access(2): W_OK | X_OK).
func writable(dir string) bool { return syscall.Access(dir, 0x2|0x1) == nil }

func plainError(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// checkTLS reads certificates, keys and authorities. A wrong one is an error, because a start would fail; where this
// host is not the target, a warning.
func (l *loader) checkTLS(path string, c *configtls.Config, clientCA string, load func() error) {
	severity := Error
	if l.opts.Portable {
		severity = Warning
	}
	found := false
	bad := func(key, format string, args ...any) {
		found = true
		l.add(severity, path+separator+key, fmt.Sprintf(format, args...), "")
	}
	defer func() {
		// What is left: versions, ciphers, curves, keys in a chip. The settings load as a start loads them.
		if err := load(); err != nil && !found {
			l.add(severity, path, plainTLS(err), "")
		}
	}()
	for _, ca := range []struct{ key, file string }{{"ca_file", c.CAFile}, {"client_ca_file", clientCA}} {
		if ca.file == "" {
			continue
		}
		if text, err := os.ReadFile(ca.file); err != nil {
			bad(ca.key, "%s %s: %v", ca.key, ca.file, plainError(err))
		} else if !x509.NewCertPool().AppendCertsFromPEM(text) {
			bad(ca.key, "%s %s holds no certificate", ca.key, ca.file)
		}
	}
	if c.CAPem != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.CAPem)) {
		bad("ca_pem", "ca_pem holds no certificate")
	}
	if c.TPMConfig.Enabled {
		return // the key is in the chip
	}
	cert, certKey, ok := pem(bad, "cert_file", c.CertFile, "cert_pem", string(c.CertPem))
	key, _, keyOK := pem(bad, "key_file", c.KeyFile, "key_pem", string(c.KeyPem))
	if !ok || !keyOK || len(cert) == 0 || len(key) == 0 {
		return // half a pair is refused by the block's own check
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		bad(certKey, "certificate and key: %v", err)
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	switch now := time.Now(); {
	case err != nil:
		bad(certKey, "certificate: %v", err)
	case now.After(leaf.NotAfter):
		bad(certKey, "certificate of %s expired on %s", leaf.Subject, leaf.NotAfter.Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		bad(certKey, "certificate of %s is not valid before %s", leaf.Subject, leaf.NotBefore.Format(time.DateOnly))
	}
}

// plainTLS is what the settings say when they do not load, without what everybody knows; a list in it is sorted.
func plainTLS(err error) string {
	text := strings.TrimPrefix(err.Error(), "failed to load TLS config: ")
	before, list, ok := strings.Cut(text, "[")
	inside, after, closed := strings.Cut(list, "]")
	if !ok || !closed {
		return text
	}
	words := strings.Fields(inside)
	slices.Sort(words)
	return before + "[" + strings.Join(words, " ") + "]" + after
}

// pem returns the bytes of a file or of the text in the configuration, and the key that named them.
func pem(bad func(key, format string, args ...any), fileKey, file, textKey, text string) ([]byte, string, bool) {
	if file == "" {
		return []byte(text), textKey, true
	}
	content, err := os.ReadFile(file)
	if err != nil {
		bad(fileKey, "%s %s: %v", fileKey, file, plainError(err))
		return nil, fileKey, false
	}
	return content, fileKey, true
}
