//go:build !rados

package main

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"herald/queue"
	"herald/store"
)

// hasRADOS tells whether the binary has the drivers that need librados.
const hasRADOS = false

func openRADOS(context.Context, queueURL, *config, *slog.Logger) (queue.Driver, error) {
	return nil, errors.New(noRADOS)
}

func (g *gateway) openRADOSStore(storeURL) (store.Driver, error) { return nil, errors.New(noRADOS) }

func radosVerb(context.Context, []string, []string, io.Writer, io.Writer) (int, error) {
	return 1, errors.New(noRADOS)
}
