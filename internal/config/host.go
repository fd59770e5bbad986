// Copyright The Holdfast Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
					l.checkTLS(join(path, key), &v.Config, v.ClientCAFile)
				case configtls.ClientConfig:
					if !v.Insecure {
						l.checkTLS(join(path, key), &v.Config, "")
					}
				}
			})
		}
	}
	l.each(Extensions, func(_, path string, m map[string]any) {
		dir, ok := m["directory"].(string)
		if !ok {
			dir = defaultStorageDirectory
		}
		l.checkDirectory(path+"::directory", dir, m["create_directory"] != false)
	}, storageType)
	l.each(Exporters, func(_, path string, m map[string]any) {
		if file, ok := m["path"].(string); ok && file != "" {
			l.checkDirectory(path+"::path", filepath.Dir(file), m["create_directory"] != false)
		}
	}, "file")
}

// here adds a finding that is an error where this host is the target, and otherwise a warning.
func (l *loader) here(path, format string, args ...any) {
	severity := Warning
	if l.opts.Here {
		severity = Error
	}
	l.add(severity, path, fmt.Sprintf(format, args...), "")
}

func (l *loader) checkDirectory(path, dir string, create bool) {
	info, err := os.Stat(dir)
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
		l.here(path, "directory %s does not exist, and create_directory is false", dir)
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
func (l *loader) checkTLS(path string, c *configtls.Config, clientCA string) {
	severity := Error
	if l.opts.Portable {
		severity = Warning
	}
	bad := func(key, format string, args ...any) {
		l.add(severity, path+separator+key, fmt.Sprintf(format, args...), "")
	}
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
