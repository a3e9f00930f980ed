-- Run once, when the database's volume is new: Dagster's own database beside ours, so that either can be thrown away.
CREATE DATABASE dagster;
