package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// ErrFileDenied: an attribute names a file that who named it may not have the
// gateway read.
var ErrFileDenied = errors.New("the endpoint may not have that file (the option notify.endpoint_files names a directory whose files it may)")

// fileArgs are the arguments that name files. It is never written.
var fileArgs = [...]string{
	"ca-location", "ssl-certificate-location", "ssl-key-location",
	argNATSCredentials, argNATSNKey, argKerberosKeytab,
}

// maxSmallFile bounds files that an endpoint's arguments name, in bytes.
const maxSmallFile = 1 << 20

// checkFiles refuses a topic that names a file elsewhere than in o.Files,
// whether there is one or not. Errors: ErrFileDenied.
func (o *Outbound) checkFiles(t *Topic) error {
	for _, arg := range fileArgs {
		if name := t.Arg(arg); name != "" {
			if _, err := o.localName(name); err != nil {
				return fmt.Errorf("%s: %w", arg, err)
			}
		}
	}
	return nil
}

// localName is a file's name within o.Files. Errors: ErrFileDenied.
func (o *Outbound) localName(name string) (string, error) {
	if o.Files == "" || !filepath.IsAbs(name) {
		return "", ErrFileDenied
	}
	local, err := filepath.Rel(o.Files, name)
	if err != nil || local == "." || !filepath.IsLocal(local) {
		return "", ErrFileDenied
	}
	return local, nil
}

// readFile reads a file in o.Files, to which links inside it may lead, but no
// others.
func (o *Outbound) readFile(name string) ([]byte, error) {
	local, err := o.localName(name)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(o.Files)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // read only
	return readSmall(root.OpenFile(local, os.O_RDONLY|syscall.O_NONBLOCK, 0))
}

// fileReader is Endpoint.ReadFile for a topic's endpoint; nil: all files may be
// read. The rights are those of who named the endpoint, when it is read.
func (s *Service) fileReader(t *Topic) func(name string) ([]byte, error) {
	if s.opt.Outbound == nil {
		return nil
	}
	uid := t.namedBy()
	return func(name string) ([]byte, error) {
		if s.trusts(context.Background(), uid) {
			return readAnyFile(name)
		}
		return s.opt.Outbound.readFile(name)
	}
}

// readSmallFile reads a file that an argument names. Pushers read no others.
func (e *Endpoint) readSmallFile(name string) ([]byte, error) {
	switch {
	case name == "":
		return nil, errors.New("no file is named")
	case e.ReadFile != nil:
		return e.ReadFile(name)
	}
	return readAnyFile(name)
}

func readAnyFile(name string) ([]byte, error) {
	return readSmall(os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0))
}

// readSmall reads a file and closes it: it may be one that is endless, or that
// nobody ever writes.
func readSmall(f *os.File, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSmallFile {
		return nil, fmt.Errorf("%s: not a file of at most %d bytes", f.Name(), maxSmallFile)
	}
	return io.ReadAll(io.LimitReader(f, maxSmallFile))
}
