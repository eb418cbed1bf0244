package s3api

import "context"

func (s *Server) listBuckets(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) getBucketLocation(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) getBucketVersioning(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) putBucketVersioning(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) getBucketTagging(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) putBucketTagging(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) deleteBucketTagging(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) listObjectVersions(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) listObjectsV2(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) listObjects(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) headBucket(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) createBucket(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) deleteBucket(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) getObjectTagging(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) putObjectTagging(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}

func (s *Server) deleteObjectTagging(context.Context, *request) (*response, error) {
	return nil, codeNotImplemented
}
