//go:build !rados

package main

import (
	"context"
	"errors"
	"log/slog"

	"herald/queue"
)

// hasRADOS tells whether the binary has the drivers that need librados.
const hasRADOS = false

func openRADOS(context.Context, queueURL, *config, *slog.Logger) (queue.Driver, error) {
	return nil, errors.New(noRADOS)
}
