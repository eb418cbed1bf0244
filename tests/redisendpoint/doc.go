// Package redisendpoint tests the Redis endpoint over the wire: a built gateway,
// S3 and SNS clients, a real server.
package redisendpoint
