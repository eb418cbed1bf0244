// Package amqp tests the AMQP 0-9-1 endpoint over the wire: a built gateway, S3
// and SNS clients, a real RabbitMQ. Tests of rows are named after those of Ceph's
// bucket notification suite (test_bn.py) that need AMQP.
package amqp
