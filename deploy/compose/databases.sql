-- Run once by the server's own role, when the database's volume is new: a role that may do nothing but use its two
-- databases, Dagster's and ours, so that either can be thrown away.
\getenv password DATABASE_PASSWORD
CREATE ROLE registry_pipelines LOGIN PASSWORD :'password';
CREATE DATABASE registry_pipelines OWNER registry_pipelines;
CREATE DATABASE dagster OWNER registry_pipelines;
REVOKE CONNECT ON DATABASE registry_pipelines, dagster FROM PUBLIC;
