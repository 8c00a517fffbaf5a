-- Development only: production makes these roles with passwords of its own and keeps the same owners.
CREATE ROLE app LOGIN PASSWORD 'dev-app';
CREATE DATABASE app OWNER app;
CREATE ROLE stackauth LOGIN PASSWORD 'dev-stackauth';
CREATE DATABASE stackauth OWNER stackauth;
