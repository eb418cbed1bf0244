package main

import (
	"context"
	"errors"
	"log/slog"

	"herald/queue"
)

func openRedis(context.Context, queueURL, *config, *slog.Logger) (queue.Driver, error) {
	return nil, errors.New("redis queues are not there yet")
}

// refused tells whether a server refuses for good.
func refused(err error) bool { return false }
