/* The last script of a page: every figure is registered by now. */
"use strict";
Explorables.start();
