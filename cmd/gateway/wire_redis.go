package main

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"

	"herald/queue"
	"herald/queue/redis"
)

// openRedis opens queues on Redis.
func openRedis(ctx context.Context, u queueURL, c *config, log *slog.Logger) (queue.Driver, error) {
	d, err := redis.Open(ctx, u.raw, redis.Options{
		Namespace:    u.namespace,
		RequireAOF:   c.QueueRedisRequireAOF,
		WaitReplicas: c.QueueRedisWait,
		TLSCA:        c.QueueRedisTLSCA,
		TLSCert:      c.QueueRedisTLSCert,
		TLSKey:       c.QueueRedisTLSKey,
		Logger:       log,
	})
	if err != nil {
		return nil, err
	}
	return redisQueues{d}, nil
}

// redisQueues tells of losses as other drivers would.
type redisQueues struct{ *redis.Driver }

// Lost is how often the server was found to have lost what it acknowledged.
func (d redisQueues) Lost() uint64 {
	n, _ := d.Losses()
	return n
}

// redisLog takes what the client library has to say, to be seen at level debug:
// the driver tells what matters.
type redisLog struct{ log *slog.Logger }

// Printf implements the library's interface.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, args...))
	}
}

// logRedis has the client library write to the gateway's log. The library knows
// one logger for the process: it is set once, before anything is opened.
func logRedis(log *slog.Logger) { goredis.SetLogger(redisLog{log}) }
